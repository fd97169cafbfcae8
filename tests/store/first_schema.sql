BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
CREATE TABLE apps (
	name VARCHAR NOT NULL, 
	document VARCHAR NOT NULL, 
	notes VARCHAR NOT NULL, 
	CONSTRAINT pk_apps PRIMARY KEY (name)
);
INSERT INTO "apps" VALUES('shop','{"last_release":1,"live":null,"rollout":{"release":1,"previous":null,"kind":"apply","phase":"preparing","step":0,"steps":0,"started":{"wall":1700000000.0,"steady":3600.0,"boot":"boot-1"},"since":null,"before_done":false,"switched":null,"drain_until":null,"ready_since":null,"promoted":false,"failing":"","outcome":"failed","waits_for":"","released":[],"deadlines":{},"exits":0,"counts":{},"extended":false,"data":{}},"warm":null,"pin":null,"failed":null,"held":"","suspended":true,"maintenance":null,"stopping":{},"slots":{},"tails":{},"drains":{},"checking":null,"change":0,"removed":false,"frozen":null}','{"notes":[{"text":"new spec","level":"info"}]}');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	who VARCHAR NOT NULL, 
	verb VARCHAR NOT NULL, 
	app VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	detail VARCHAR NOT NULL, 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
INSERT INTO "audit" VALUES(1,1700000000.0,'ann','apply','shop','done','');
CREATE TABLE counters (
	name VARCHAR NOT NULL, 
	value INTEGER NOT NULL, 
	CONSTRAINT pk_counters PRIMARY KEY (name)
);
INSERT INTO "counters" VALUES('event',1700000005);
INSERT INTO "counters" VALUES('change',1700000002);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	app VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	level VARCHAR NOT NULL, 
	line VARCHAR NOT NULL, 
	data VARCHAR NOT NULL, 
	CONSTRAINT pk_events PRIMARY KEY (id)
);
INSERT INTO "events" VALUES(1700000001,1700000000.0,'shop','release','info','release 1: rolling out: spec changed','{"release":1,"outcome":"rolling_out"}');
INSERT INTO "events" VALUES(1700000002,1700000000.0,'shop','note','info','new spec','{}');
INSERT INTO "events" VALUES(1700000003,1700000000.0,'shop','step','info','start shop-r1-1: image changed: 1.4 -> 1.5','{"release":1,"state":"done"}');
INSERT INTO "events" VALUES(1700000004,1700000000.0,'shop','order','info','apply asked by ann','{"order":1700000001,"verb":"apply"}');
INSERT INTO "events" VALUES(1700000005,1700000000.0,'shop','order','info','promote asked by ann','{"order":1700000002,"verb":"promote"}');
CREATE TABLE fixed_routes (
	name VARCHAR NOT NULL, 
	document VARCHAR NOT NULL, 
	CONSTRAINT pk_fixed_routes PRIMARY KEY (name)
);
CREATE TABLE meters (
	app VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	release INTEGER NOT NULL, 
	span_s INTEGER NOT NULL, 
	start INTEGER NOT NULL, 
	value DOUBLE NOT NULL, 
	CONSTRAINT pk_meters PRIMARY KEY (app, name, release, span_s, start)
);
CREATE TABLE orders (
	id INTEGER NOT NULL, 
	app VARCHAR NOT NULL, 
	at DOUBLE NOT NULL, 
	document VARCHAR NOT NULL, 
	answer VARCHAR, 
	answered DOUBLE, 
	CONSTRAINT pk_orders PRIMARY KEY (id)
);
INSERT INTO "orders" VALUES(1700000001,'shop',1700000000.0,'{"id":1700000001,"app":"shop","verb":"apply","by":"ann","at":{"wall":1700000000.0,"steady":3600.0,"boot":"boot-1"},"to":null,"on":false,"message":"","digest":""}','{"order":1700000001,"result":"done","release":null,"text":""}',1700000000.0);
INSERT INTO "orders" VALUES(1700000002,'shop',1700000000.0,'{"id":1700000002,"app":"shop","verb":"promote","by":"ann","at":{"wall":1700000000.0,"steady":3600.0,"boot":"boot-1"},"to":null,"on":false,"message":"","digest":""}',NULL,NULL);
CREATE TABLE releases (
	app VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	digest VARCHAR NOT NULL, 
	image_id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	"by" VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	message VARCHAR NOT NULL, 
	spec VARCHAR NOT NULL, 
	document VARCHAR NOT NULL, 
	CONSTRAINT pk_releases PRIMARY KEY (app, number), 
	CONSTRAINT fk_releases_app_apps FOREIGN KEY(app) REFERENCES apps (name)
);
INSERT INTO "releases" VALUES('shop',1,'digest-1','','apply','ann','spec changed','rolling_out','','{"name":"shop","image":"shop:1","port":8000,"replicas":1,"command":null,"entrypoint":null,"user":null,"working_dir":null,"labels":{},"init":null,"read_only":false,"tmpfs":[],"cap_add":[],"cap_drop":[],"extra_hosts":[],"hostname":null,"networks":[],"shm_size":null,"ulimits":{},"environment":{},"secrets":[],"volumes":[],"resources":{"cpus":null,"memory":null,"pids":null},"stop_signal":null,"pull":"missing","routes":[{"host":"shop.example.com","path":"/","strip_path":false}],"health":{"path":null,"interval":1.0,"steady":10.0,"timeout":2.0,"passes":1,"failures":3,"start_period":0.0,"status":[[200,399]],"host":null,"headers":{},"command":null},"strategy":{"type":"rolling","max_surge":1,"max_unavailable":0},"deadline":120.0,"drain":30.0,"stop_grace":10.0,"bake":0.0,"before":null,"suspend":false,"proxy":{"timeout":30.0,"idle":null,"body_limit":104857600,"max_in_flight":1000,"https":"auto","hsts":0.0,"sticky":false,"assets":[],"headers":{"request":{"set":{},"remove":[]},"response":{"set":{},"remove":[]}},"basic_auth":[],"allow":[],"rate_limit":null,"canonical_host":null,"redirects":[],"inspect":false,"inspect_required":false,"addons":[]}}','{"image_healthcheck":false,"container_digest":"","secret_versions":[],"restarts":0,"was_live":false,"started":{"wall":1700000000.0,"steady":3600.0,"boot":"boot-1"},"finished":null}');
CREATE TABLE routes (
	id INTEGER NOT NULL, 
	app VARCHAR NOT NULL, 
	at DOUBLE NOT NULL, 
	because VARCHAR NOT NULL, 
	document VARCHAR, 
	CONSTRAINT pk_routes PRIMARY KEY (id)
);
CREATE TABLE secrets (
	app VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	key_id VARCHAR NOT NULL, 
	sealed BLOB, 
	at DOUBLE NOT NULL, 
	"by" VARCHAR NOT NULL, 
	CONSTRAINT pk_secrets PRIMARY KEY (app, name)
);
CREATE TABLE standings (
	app VARCHAR NOT NULL, 
	change INTEGER NOT NULL, 
	document VARCHAR NOT NULL, 
	CONSTRAINT pk_standings PRIMARY KEY (app)
);
INSERT INTO "standings" VALUES('shop',1,'{"app":"shop","wanted":{"spec":{"name":"shop","image":"shop:1","port":8000,"replicas":1,"command":null,"entrypoint":null,"user":null,"working_dir":null,"labels":{},"init":null,"read_only":false,"tmpfs":[],"cap_add":[],"cap_drop":[],"extra_hosts":[],"hostname":null,"networks":[],"shm_size":null,"ulimits":{},"environment":{},"secrets":[],"volumes":[],"resources":{"cpus":null,"memory":null,"pids":null},"stop_signal":null,"pull":"missing","routes":[{"host":"shop.example.com","path":"/","strip_path":false}],"health":{"path":null,"interval":1.0,"steady":10.0,"timeout":2.0,"passes":1,"failures":3,"start_period":0.0,"status":[[200,399]],"host":null,"headers":{},"command":null},"strategy":{"type":"rolling","max_surge":1,"max_unavailable":0},"deadline":120.0,"drain":30.0,"stop_grace":10.0,"bake":0.0,"before":null,"suspend":false,"proxy":{"timeout":30.0,"idle":null,"body_limit":104857600,"max_in_flight":1000,"https":"auto","hsts":0.0,"sticky":false,"assets":[],"headers":{"request":{"set":{},"remove":[]},"response":{"set":{},"remove":[]}},"basic_auth":[],"allow":[],"rate_limit":null,"canonical_host":null,"redirects":[],"inspect":false,"inspect_required":false,"addons":[]}},"digest":"d","file":"shop.yaml","by":""},"gone":false,"held":"","invalid":"","file":"shop.yaml"}');
CREATE TABLE steps (
	id INTEGER NOT NULL, 
	app VARCHAR NOT NULL, 
	release INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	line VARCHAR NOT NULL, 
	because VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	times INTEGER NOT NULL, 
	CONSTRAINT pk_steps PRIMARY KEY (id), 
	CONSTRAINT fk_steps_app_apps FOREIGN KEY(app) REFERENCES apps (name)
);
INSERT INTO "steps" VALUES(1,'shop',1,1700000000.0,'start shop-r1-1','image changed: 1.4 -> 1.5','done','',1);
CREATE TABLE tokens (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	hash VARCHAR NOT NULL, 
	scope VARCHAR NOT NULL, 
	apps VARCHAR, 
	hosts VARCHAR NOT NULL, 
	"by" VARCHAR NOT NULL, 
	created DOUBLE NOT NULL, 
	expires DOUBLE, 
	last_used DOUBLE, 
	revoked DOUBLE, 
	CONSTRAINT pk_tokens PRIMARY KEY (id), 
	CONSTRAINT uq_tokens_hash UNIQUE (hash)
);
INSERT INTO "tokens" VALUES(1,'ci','72b52e62104b21fa55fd47f8d3292b390b0d05b820a9915813d4c08d9c8c9288','deploy',NULL,'[]','',1700000000.0,NULL,NULL,NULL);
CREATE INDEX ix_audit_app ON audit (app, id);
CREATE INDEX ix_audit_at ON audit (at);
CREATE INDEX ix_events_app ON events (app, id);
CREATE INDEX ix_events_at ON events (at);
CREATE INDEX ix_meters_start ON meters (span_s, start);
CREATE INDEX ix_orders_app ON orders (app, id);
CREATE INDEX ix_routes_app ON routes (app, id);
CREATE INDEX ix_steps_app_release ON steps (app, release, id);
CREATE INDEX ix_steps_planned ON steps (id) WHERE state = 'planned';
COMMIT;
