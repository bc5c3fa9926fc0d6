"""Uses the MySQL driver, and prints what it asked the server, one object a line. Runs in target/python."""
import datetime
import json
import sys

import mysql.connector

NAMES = {1: "quit", 2: "init_db", 3: "query", 9: "statistics", 14: "ping", 17: "change_user", 22: "stmt_prepare",
         23: "stmt_execute", 25: "stmt_close", 26: "stmt_reset", 31: "reset_connection"}
KNOWN = []


def note(command, **more):
    KNOWN.append({"protocol": "mysql", "request": {"command": command, **more}})
    return KNOWN[-1]


def watch(connection):
    """Notes every command that goes through the driver, also those that it sends on its own."""
    send = connection._send_cmd

    def watched(command, argument=None, *rest, **more):
        entry = note(NAMES[int(command)])
        if entry["request"]["command"] in ("query", "stmt_prepare"):
            entry["request"]["query"] = bytes(argument).decode()
        return send(command, argument, *rest, **more)

    connection._send_cmd = watched


def expect(command, **response):
    """What the last of these commands is known to have been answered."""
    entry = [entry for entry in KNOWN if entry["request"]["command"] == command][-1]
    entry["response"] = response
    return entry["request"]


def ask(connection):
    cursor = connection.cursor()
    cursor.execute("CREATE TABLE p (id INT, name VARCHAR(40), amount DOUBLE, day DATETIME, data BLOB)")
    cursor.close()
    cursor = connection.cursor(prepared=True)
    for number in range(3):
        day = datetime.datetime(2026, 11, 20, 10, 0, number)
        cursor.execute("INSERT INTO p VALUES (?, ?, ?, ?, ?)", (number, f"name {number}", number + 0.5, day, None))
        request = expect("stmt_execute", status="ok", affected_rows=1)
        request["parameters"] = [number, f"name {number}", number + 0.5, str(day), None]
    cursor.close()
    cursor = connection.cursor(prepared=True)
    for limit in (2, 100):
        cursor.execute("SELECT id, name FROM p WHERE id < ?", (limit,))
        assert len(cursor.fetchall()) == min(limit, 3)
        expect("stmt_execute", status="resultset", rows=min(limit, 3), columns=2)["parameters"] = [limit]
    cursor.close()
    try:
        connection.cursor(prepared=True).execute("SELECT missing FROM p WHERE id = ?", (1,))
    except mysql.connector.Error as error:
        expect("stmt_prepare", status="error", error_code=error.errno, sql_state=error.sqlstate)
    connection.cmd_statistics()
    note("statistics")  # It does not pass _send_cmd, like the last two.
    connection.cmd_init_db("other")


def main():
    port, way = int(sys.argv[1]), sys.argv[2]
    connection = mysql.connector.connection.MySQLConnection()
    watch(connection)
    connection.connect(
        host="127.0.0.1", port=port, user="tester", password="geheim", database="shop", ssl_disabled=True,
        compress=way == "compressed", autocommit=True, charset="utf8mb4", collation="utf8mb4_general_ci")
    ask(connection)
    user = "tester"
    if way == "plain":  # The driver can't do it on compressed connections.
        user = "other"
        connection.cmd_change_user(username=user, password="geheim", database="shop", charset=45)
        note("change_user", argument=user)["response"] = {"status": "ok"}
    else:
        connection.cmd_init_db("shop")
    cursor = connection.cursor()
    cursor.execute("DROP TABLE p")
    expect("query", status="ok").update(user=user, database="shop")
    connection.close()
    note("quit")["response"] = None
    for entry in KNOWN:
        print(json.dumps(entry))


main()
