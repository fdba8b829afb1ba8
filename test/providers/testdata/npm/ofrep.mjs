// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0
//
// node ofrep.mjs EVENTS EVALUATIONS: evaluates flags with OFREP's provider for browsers, which
// receives events from one instance and requests flags from another one, as behind a
// Service. Input and output are those of flagd.mjs.
import { createInterface } from 'node:readline';
import { EventSource } from 'eventsource';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/web-sdk';

const [events, evaluations] = process.argv.slice(2);
const write = (line) => process.stdout.write(JSON.stringify(line) + '\n');
globalThis.EventSource = EventSource;

for (const event of Object.values(ProviderEvents)) {
  OpenFeature.addHandler(event, (details) => write({ event, flags: (details?.flagsChanged ?? []).sort() }));
}
await OpenFeature.setProviderAndWait(
  new OFREPWebProvider({
    baseUrl: events,
    pollInterval: 0,
    cacheMode: 'disabled',
    fetchImplementation: (request, options) => fetch(new Request(request.url.replace(events, evaluations), request), options),
  }),
);
const client = OpenFeature.getClient();
const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  const { type, key, fallback } = JSON.parse(line);
  const { value, reason, variant, errorCode, flagMetadata } = client[`get${type}Details`](key, fallback);
  write({ answer: { value, reason, variant, errorCode, metadata: flagMetadata } });
});
input.on('close', () => OpenFeature.close().then(() => process.exit(0)));
