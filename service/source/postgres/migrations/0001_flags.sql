-- Copyright The FlagCache Authors.
-- SPDX-License-Identifier: Apache-2.0
--
-- Flags by environment. Triggers ensure that changes by any client are versioned,
-- audited and notified like those of the admin API.

-- A restored dump creates new tables. The value that identifies the tables must
-- therefore not be part of the dump.
CREATE FUNCTION flagcache.incarnation() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT (SELECT oid FROM pg_database WHERE datname = current_database())::text
		|| '.' || to_regclass('flagcache.environments')::oid::text
$$;

-- Microseconds since 1970: a store that is created later has a larger epoch.
CREATE FUNCTION flagcache.new_epoch() RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
$$;

CREATE TABLE flagcache.environments (
	name        text        COLLATE "C" PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9._/-]{1,253}$'),
	epoch       bigint      NOT NULL DEFAULT flagcache.new_epoch(),
	version     bigint      NOT NULL DEFAULT 1,
	incarnation text        NOT NULL DEFAULT flagcache.incarnation(),
	evaluators  json        CHECK (json_typeof(evaluators) = 'object' AND octet_length(evaluators::text) <= 1048576),
	metadata    json        CHECK (json_typeof(metadata) = 'object' AND octet_length(metadata::text) <= 1048576),
	updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON COLUMN flagcache.environments.version IS 'increases with every change of the environment; (epoch, version) orders its documents';
COMMENT ON COLUMN flagcache.environments.incarnation IS 'identifies the store in which epoch was assigned; after a restore it differs and a new epoch is assigned';

CREATE TABLE flagcache.flags (
	environment text        COLLATE "C" NOT NULL REFERENCES flagcache.environments ON DELETE CASCADE,
	key         text        COLLATE "C" NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 256),
	definition  json        NOT NULL CHECK (json_typeof(definition) = 'object' AND octet_length(definition::text) <= 1048576),
	version     bigint      NOT NULL DEFAULT 0,
	updated_at  timestamptz NOT NULL DEFAULT now(),
	updated_by  text        NOT NULL DEFAULT '',
	PRIMARY KEY (environment, key)
);
COMMENT ON COLUMN flagcache.flags.definition IS 'the flag in flagd''s format; json and not jsonb, which would rewrite numbers';
COMMENT ON COLUMN flagcache.flags.version IS 'the environment''s version created by the last change of the flag; set by a trigger';

CREATE TABLE flagcache.audit (
	id          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	environment text        COLLATE "C" NOT NULL,
	key         text        COLLATE "C",
	action      text        NOT NULL CHECK (action IN ('create', 'update', 'delete', 'configure', 'truncate')),
	actor       text        NOT NULL,
	request_id  text        NOT NULL,
	before      json,
	after       json,
	at          timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_environment ON flagcache.audit (environment, id);
CREATE INDEX audit_flag ON flagcache.audit (environment, key, id);
COMMENT ON COLUMN flagcache.audit.key IS 'the flag; null for a change of the environment itself';
COMMENT ON COLUMN flagcache.audit.actor IS 'the client of the admin API, or the database user for a change by SQL';

CREATE FUNCTION flagcache.actor() RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
	SELECT coalesce(nullif(current_setting('flagcache.actor', true), ''), session_user)
$$;

CREATE FUNCTION flagcache.record(environment text, key text, action text, before json, after json) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp AS $$
	INSERT INTO flagcache.audit (environment, key, action, actor, request_id, before, after)
	VALUES ($1, $2, $3, flagcache.actor(), coalesce(current_setting('flagcache.request_id', true), ''), $4, $5)
$$;

-- Incrementing the environment's version locks its row, so that a larger version
-- is always committed later.
CREATE FUNCTION flagcache.flag_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	IF TG_OP = 'DELETE' THEN
		UPDATE flagcache.environments SET version = version + 1, updated_at = now() WHERE name = OLD.environment;
		RETURN OLD;
	END IF;
	IF TG_OP = 'UPDATE' AND (NEW.environment, NEW.key) <> (OLD.environment, OLD.key) THEN
		RAISE EXCEPTION 'a flag cannot be renamed or moved: delete it and create another' USING ERRCODE = 'integrity_constraint_violation';
	END IF;
	UPDATE flagcache.environments SET version = version + 1, updated_at = now() WHERE name = NEW.environment
		RETURNING version INTO NEW.version;
	IF NOT FOUND THEN
		RAISE EXCEPTION 'environment % does not exist', NEW.environment USING ERRCODE = 'foreign_key_violation';
	END IF;
	NEW.updated_at := now();
	NEW.updated_by := flagcache.actor();
	RETURN NEW;
END $$;
CREATE TRIGGER flag_changes BEFORE INSERT OR UPDATE OR DELETE ON flagcache.flags
	FOR EACH ROW EXECUTE FUNCTION flagcache.flag_changes();

-- AFTER, because an INSERT that becomes an UPDATE (ON CONFLICT) fires the BEFORE
-- triggers of both.
CREATE FUNCTION flagcache.flag_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	CASE TG_OP
	WHEN 'INSERT' THEN PERFORM flagcache.record(NEW.environment, NEW.key, 'create', NULL, NEW.definition);
	WHEN 'UPDATE' THEN PERFORM flagcache.record(NEW.environment, NEW.key, 'update', OLD.definition, NEW.definition);
	ELSE PERFORM flagcache.record(OLD.environment, OLD.key, 'delete', OLD.definition, NULL);
	END CASE;
	RETURN NULL;
END $$;
CREATE TRIGGER flag_changed AFTER INSERT OR UPDATE OR DELETE ON flagcache.flags
	FOR EACH ROW EXECUTE FUNCTION flagcache.flag_changed();

CREATE FUNCTION flagcache.flags_truncated() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	UPDATE flagcache.environments SET version = version + 1, updated_at = now();
	PERFORM flagcache.record(name, NULL, 'truncate', NULL, NULL) FROM flagcache.environments;
	RETURN NULL;
END $$;
CREATE TRIGGER flags_truncated AFTER TRUNCATE ON flagcache.flags
	FOR EACH STATEMENT EXECUTE FUNCTION flagcache.flags_truncated();

CREATE FUNCTION flagcache.environment_changes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	NEW.version := greatest(NEW.version, OLD.version + 1);
	NEW.updated_at := now();
	PERFORM flagcache.record(NEW.name, NULL, 'configure',
		json_build_object('metadata', OLD.metadata, '$evaluators', OLD.evaluators),
		json_build_object('metadata', NEW.metadata, '$evaluators', NEW.evaluators));
	RETURN NEW;
END $$;
CREATE TRIGGER environment_changes BEFORE UPDATE ON flagcache.environments FOR EACH ROW
	WHEN (OLD.metadata::text IS DISTINCT FROM NEW.metadata::text OR OLD.evaluators::text IS DISTINCT FROM NEW.evaluators::text)
	EXECUTE FUNCTION flagcache.environment_changes();

-- Every change in an environment changes its row. Identical payloads are delivered
-- once per transaction.
CREATE FUNCTION flagcache.announce() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
	PERFORM pg_notify('flagcache', coalesce(NEW.name, OLD.name));
	RETURN NULL;
END $$;
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON flagcache.environments
	FOR EACH ROW EXECUTE FUNCTION flagcache.announce();

-- By default every role may execute functions, which would allow writers to forge
-- audit entries.
REVOKE EXECUTE ON FUNCTION flagcache.record(text, text, text, json, json) FROM PUBLIC;
