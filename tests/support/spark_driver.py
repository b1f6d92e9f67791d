"""A Spark driver for tests of its REST API: python spark_driver.py; run by a Python that has pyspark.

Runs a stage with one task that takes much longer than the others, and a stage that fails; then says where its page is
and waits for the end of its input.
"""

import contextlib
import sys
import time

from pyspark.sql import SparkSession


def work(number, rows):
    """One task: the first takes long."""
    time.sleep(2.0 if number == 0 else 0.02)
    yield sum(1 for _ in rows)


def fail(number, rows):
    """One task that cannot be done."""
    if number == 1:
        raise ValueError("this partition cannot be worked on")
    yield from rows


spark = (
    SparkSession.builder.master("local[2]")
    .appName("health")
    .config("spark.ui.port", "0")
    .config("spark.ui.enabled", "true")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.memory", "512m")
    .getOrCreate()
)
context = spark.sparkContext
context.setLogLevel("OFF")
context.parallelize(range(80), 8).mapPartitionsWithIndex(work).collect()
print(context.uiWebUrl, flush=True)
for line in sys.stdin:
    if line.strip() == "fail":
        with contextlib.suppress(Exception):
            context.parallelize(range(8), 4).mapPartitionsWithIndex(fail).collect()
        print("done", flush=True)
spark.stop()
