#!/bin/sh
# Two databases, each with its own owner: Prefect's, which may be lost, and the ledger's, which must not be lost.
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
