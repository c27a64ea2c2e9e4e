#!/bin/sh
# Two databases, two owners: Prefect's, which may be thrown away, and the ledger's, which may not.
set -eu
psql --username postgres --set ON_ERROR_STOP=1 \
    --set prefect="$PREFECT_DATABASE_PASSWORD" --set ledger="$LEDGER_DATABASE_PASSWORD" <<'SQL'
CREATE ROLE prefect LOGIN PASSWORD :'prefect';
CREATE DATABASE prefect OWNER prefect;
CREATE ROLE reelsheet LOGIN PASSWORD :'ledger';
CREATE DATABASE reelsheet OWNER reelsheet;
REVOKE CONNECT ON DATABASE prefect FROM PUBLIC;
REVOKE CONNECT ON DATABASE reelsheet FROM PUBLIC;
SQL
