"""PostgreSQL, asked by psql and by pgbench in its modes."""
import os
import pathlib
import subprocess

from .process import Server, run, unused_port

PASSWORD = "geheim"
OWNER = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]


def program(name):
    newest = max(pathlib.Path("/usr/lib/postgresql").iterdir(), key=lambda path: int(path.name))
    return str(newest / "bin" / name)


def ok(tag, **more):
    return {"status": "ok", "command_tag": tag, **more}


def error(code, **more):
    return {"status": "error", "error_code": code, **more}


ROWS = "".join(f"{number}\tvalue {number}\n" for number in range(30))

# The end mark is sent, too.
COPIED = len(ROWS) + len("\\.\n")

STATEMENTS = [
    ("CREATE TABLE t (id int PRIMARY KEY, name text);", ok("CREATE TABLE")),
    ("INSERT INTO t SELECT n, 'name ' || n FROM generate_series(1, 50) n;", ok("INSERT 0 50", affected_rows=50)),
    ("SELECT 1;", ok("SELECT 1", rows=1, columns=1, transaction_status="idle")),
    ("SELECT * FROM t;", ok("SELECT 50", rows=50, columns=2)),
    ("SELECT * FROM t WHERE false;", ok("SELECT 0", rows=0, columns=2)),
    ("UPDATE t SET name = 'x' WHERE id <= 10;", ok("UPDATE 10", affected_rows=10)),
    ("SELECT * FROM missing;", error("42P01", error_message='relation "missing" does not exist')),
    ("SELECT 1/0;", error("22012", error_message="division by zero")),
    ("INSERT INTO t VALUES (1, 'again');", error("23505", severity="ERROR")),
    ("DO 'begin raise notice ''look''; end';", ok("DO")),
    ("BEGIN;", ok("BEGIN", transaction_status="in_transaction")),
    ("SELECT nothing;", error("42703", transaction_status="failed")),
    ("ROLLBACK;", ok("ROLLBACK", transaction_status="idle")),
    ("LISTEN here;", ok("LISTEN")),
    ("NOTIFY here, 'word';", ok("NOTIFY")),
    (f"COPY t FROM STDIN;\n{ROWS}\\.", error("23505")),
    ("CREATE TABLE c (id int, name text);", ok("CREATE TABLE")),
    (f"COPY c FROM STDIN;\n{ROWS}\\.", ok("COPY 30", rows=30)),
    ("COPY c TO STDOUT;", ok("COPY 30", rows=30, copy_bytes=len(ROWS))),
    ("SELECT repeat('0123456789', 300);", ok("SELECT 1", rows=1)),
    ("DROP TABLE t, c;", ok("DROP TABLE")),
]

PIPELINES = """\\startpipeline
SELECT 1;
SELECT 2;
SELECT 3;
\\endpipeline
\\startpipeline
SELECT 4;
SELECT 5/0;
SELECT 6;
\\endpipeline
"""


def serve(directory):
    port = unused_port()
    home = directory / "postgres"
    home.mkdir()
    (home / "password").write_text(PASSWORD)
    run(["chown", "-R", "postgres:", str(home)])
    run([*OWNER, program("initdb"), "--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "-U",
         "postgres", "--pwfile", f"{home}/password", "-D", f"{home}/data"])
    server = Server(
        [*OWNER, program("postgres"), "-D", f"{home}/data", "-k", str(home), "-p", str(port), "-c",
         "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", "autovacuum=off"], port).wait_for_port()
    yield server
    environment = {**os.environ, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGDATABASE":
                   "postgres", "PGPASSWORD": PASSWORD, "PGSSLMODE": "disable", "PGGSSENCMODE": "disable"}
    known = psql(directory, environment)
    for mode in ("simple", "extended", "prepared"):
        known += pgbench(directory, environment, mode)
    yield known + pipelines(directory, environment) + failed_login(environment)


def known(command, query, response):
    request = {"command": command, "query": query, "user": "postgres", "database": "postgres"}
    return {"protocol": "pgsql", "request": request, "response": response}


def psql(directory, environment):
    script = directory / "script.sql"
    script.write_text("".join(f"{text}\n" for text, _ in STATEMENTS))
    subprocess.run([program("psql"), "-X", "-q", "-o", "/dev/null", "-f", str(script)], env=environment,
                   capture_output=True)
    entries = []
    for text, response in STATEMENTS:
        query = text.split("\n")[0]
        entries.append(known("copy" if query.startswith("COPY") else "query", query, response))
        if "STDIN" in query:
            entries[-1]["request"]["copy_bytes"] = COPIED
    return entries


def pgbench(directory, environment, mode):
    """Its own script, so that every statement of it is known; what it asks before is known from its source."""
    script = directory / "script.sql"
    script.write_text("\\set number 41 + 1\nSELECT :number;\nSELECT :number AS again, 'text';\n")
    run([program("pgbench"), "-n", "-M", mode, "-c", "1", "-t", "3", "-f", str(script)], env=environment)
    number = "42" if mode == "simple" else "$1"
    command = "query" if mode == "simple" else "execute"
    entries = []
    for _ in range(3):
        for text, columns in ((f"SELECT {number};", 1), (f"SELECT {number} AS again, 'text';", 2)):
            entries.append(known(command, text, ok("SELECT 1", rows=1, columns=columns)))
            if mode != "simple":
                entries[-1]["request"]["parameters"] = ["42"]
    return entries


def pipelines(directory, environment):
    script = directory / "script.sql"
    script.write_text(PIPELINES)
    subprocess.run([program("pgbench"), "-n", "-M", "extended", "-c", "1", "-t", "1", "-f", str(script)],
                   env=environment, capture_output=True)
    answers = [("1", ok("SELECT 1")), ("2", ok("SELECT 1")), ("3", ok("SELECT 1")), ("4", ok("SELECT 1")),
               ("5/0", error("22012")), ("6", {"status": "skipped"})]
    return [known("execute", f"SELECT {number};", response) for number, response in answers]


def failed_login(environment):
    subprocess.run([program("psql"), "-X", "-c", "SELECT 1"], env={**environment, "PGPASSWORD": "wrong"},
                   capture_output=True)
    request = {"command": "startup", "user": "postgres", "database": "postgres"}
    return [{"protocol": "pgsql", "request": request, "response": error("28P01", severity="FATAL")}]
