"""MariaDB, asked by its client and by a driver that prepares statements."""
import json
import subprocess

from .process import PYTHON, REPO, Server, run, unused_port

PASSWORD = "geheim"


def ok(affected=0, **more):
    return {"status": "ok", "affected_rows": affected, **more}


def rows(count, columns):
    return {"status": "resultset", "rows": count, "columns": columns}


def error(code, state):
    return {"status": "error", "error_code": code, "sql_state": state}


def statements(data):
    return [
        ("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, name VARCHAR(40))", ok()),
        ("INSERT INTO t (name) SELECT CONCAT('name ', seq) FROM seq_1_to_50", ok(50)),
        ("SELECT 1", rows(1, 1)),
        ("SELECT * FROM t", rows(50, 2)),
        ("SELECT * FROM t WHERE FALSE", rows(0, 2)),
        ("UPDATE t SET name = 'x' WHERE id <= 10", ok(10)),
        ("SELECT * FROM missing", error(1146, "42S02")),
        ("INSERT INTO t VALUES (1, 'again')", error(1062, "23000")),
        ("SELEC 1", error(1064, "42000")),
        ("CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2, 3 UNION SELECT 4, 5; END", ok()),
        ("CALL p()", {"status": "resultset", "rows": 3}),
        ("DROP PROCEDURE p", ok()),
        ("BEGIN", ok()),
        ("DELETE FROM t WHERE id > 20", ok(30)),
        ("ROLLBACK", ok()),
        ("CREATE TABLE f (id INT, name VARCHAR(40))", ok()),
        (f"LOAD DATA LOCAL INFILE '{data}' INTO TABLE f", ok(30)),
        ("SELECT REPEAT('0123456789', 300)", rows(1, 1)),
        ("DROP TABLE t, f", ok()),
        ("SELECT NULL, '', 2", rows(1, 3)),
    ]


def serve(directory):
    port = unused_port()
    run(["mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db",
         "--user=root", f"--datadir={directory}/data"])
    users = "".join(f"CREATE USER {name}@'%' IDENTIFIED BY '{PASSWORD}';\nGRANT ALL ON *.* TO {name}@'%';\n"
                    for name in ("tester", "other"))
    (directory / "init.sql").write_text(users + "CREATE DATABASE shop;\nCREATE DATABASE other;\n")
    server = Server(
        ["mariadbd", "--no-defaults", "--user=root", "--bind-address=127.0.0.1", f"--port={port}",
         f"--datadir={directory}/data", f"--socket={directory}/socket", f"--pid-file={directory}/pid",
         f"--init-file={directory}/init.sql", "--local-infile=1", "--skip-name-resolve"], port).wait_for_port()
    yield server
    known = []
    for way in ("plain", "compressed"):
        known += client(directory, port, way) + driver(port, way)
    yield known


def client(directory, port, way):
    data = directory / "rows"
    data.write_text("".join(f"{number}\tvalue {number}\n" for number in range(30)))
    script = directory / "script.sql"
    asked = statements(data)
    script.write_text("DELIMITER //\n" + "".join(f"{text}//\n" for text, _ in asked))
    words = ["mariadb", "--no-defaults", "--batch", "--force", "--local-infile=1", "--skip-ssl", "-utester",
             f"-p{PASSWORD}", "-h127.0.0.1", f"-P{port}", *(["--compress"] if way == "compressed" else []), "shop"]
    with open(script) as source:
        subprocess.run(words, stdin=source, capture_output=True)
    known = []
    for text, response in asked:
        request = {"command": "query", "query": text, "user": "tester", "database": "shop"}
        if text.startswith("LOAD"):
            request["data_bytes"] = data.stat().st_size
        known.append({"protocol": "mysql", "request": request, "response": response})
    return known + [{"protocol": "mysql", "request": {"command": "quit"}, "response": None}]


def driver(port, way):
    script = REPO / "scripts/goldens/programs/mysql_driver.py"
    return [json.loads(line) for line in run([PYTHON, str(script), str(port), way]).splitlines()]
