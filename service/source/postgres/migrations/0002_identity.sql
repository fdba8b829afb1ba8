-- Copyright The FlagCache Authors.
-- SPDX-License-Identifier: Apache-2.0
--
-- The identity of documents. A version alone does not identify one: another database
-- may have the same, and so may this one after it was restored to an earlier state
-- and changed again.

-- The database, also on its replicas. It differs for a database that a dump is
-- restored into.
CREATE FUNCTION flagcache.store() RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
	cluster text;
BEGIN
	BEGIN
		SELECT system_identifier::text INTO cluster FROM pg_control_system();
	EXCEPTION WHEN insufficient_privilege THEN
		-- Instead of the cluster, the creation of the schema.
		SELECT 'schema-' || (extract(epoch FROM min(at)) * 1000000)::bigint INTO cluster FROM flagcache.migrations;
	END;
	RETURN 'postgres:' || cluster || ':' || (SELECT oid FROM pg_database WHERE datname = current_database());
END $$;

ALTER TABLE flagcache.environments ADD COLUMN tag uuid NOT NULL DEFAULT gen_random_uuid();
COMMENT ON COLUMN flagcache.environments.tag IS 'differs for each change of the environment, also of those with the same version after a restore';

CREATE FUNCTION flagcache.environment_tag() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.tag := gen_random_uuid();
	RETURN NEW;
END $$;
CREATE TRIGGER environment_tag BEFORE UPDATE ON flagcache.environments
	FOR EACH ROW EXECUTE FUNCTION flagcache.environment_tag();
