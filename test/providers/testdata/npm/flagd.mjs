// Copyright The FlagCache Authors.
// SPDX-License-Identifier: Apache-2.0
//
// node flagd.mjs RESOLVER PORT: evaluates flags with flagd's provider. Requests are lines of
// JSON on standard input, answers and the provider's events lines on standard output.
import { createInterface } from 'node:readline';
import { FlagdProvider } from '@openfeature/flagd-provider';
import { OpenFeature, ProviderEvents } from '@openfeature/server-sdk';

const [resolverType, port] = process.argv.slice(2);
const write = (line) => process.stdout.write(JSON.stringify(line) + '\n');

for (const event of Object.values(ProviderEvents)) {
  OpenFeature.addHandler(event, (details) => write({ event, flags: (details?.flagsChanged ?? []).sort() }));
}
await OpenFeature.setProviderAndWait(
  new FlagdProvider({ host: '127.0.0.1', port: Number(port), resolverType, deadlineMs: 5000, retryBackoffMs: 100, retryBackoffMaxMs: 200 }),
);
const client = OpenFeature.getClient();
const input = createInterface({ input: process.stdin });
input.on('line', async (line) => {
  const { type, key, fallback, context } = JSON.parse(line);
  const { value, reason, variant, errorCode, flagMetadata } = await client[`get${type}Details`](key, fallback, context);
  write({ answer: { value, reason, variant, errorCode, metadata: flagMetadata } });
});
input.on('close', () => OpenFeature.close());
