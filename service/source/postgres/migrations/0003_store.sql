-- Copyright The FlagCache Authors.
-- SPDX-License-Identifier: Apache-2.0
--
-- The identity of the store must not depend on the role that asks for it: without the
-- right to read the identifier of the server, a role took the same database for another.
-- What the owner of the schema may do decides for all roles.

-- The name of the store for an owner without that right. It is also by what instances of
-- earlier releases may have named the store in Redis.
CREATE FUNCTION flagcache.former_store() RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
	SELECT 'postgres:schema-' || (SELECT (extract(epoch FROM min(at)) * 1000000)::bigint FROM flagcache.migrations)
		|| ':' || (SELECT oid FROM pg_database WHERE datname = current_database())
$$;

CREATE OR REPLACE FUNCTION flagcache.store() RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	RETURN 'postgres:' || (SELECT system_identifier FROM pg_control_system())
		|| ':' || (SELECT oid FROM pg_database WHERE datname = current_database());
EXCEPTION WHEN insufficient_privilege THEN
	RETURN flagcache.former_store();
END $$;
