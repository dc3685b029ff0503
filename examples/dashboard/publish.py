"""Publish three figures of this machine each second: any program that can reach Redis will do."""

import json
import os
import shutil
import time

import redis

connection = redis.Redis(host="localhost", port=6379)

while True:
    metrics = {
        "load": os.getloadavg()[0],
        "free memory, MiB": os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**20,
        "free disk, GiB": shutil.disk_usage("/").free / 2**30,
    }
    for name, value in metrics.items():
        connection.publish("global", json.dumps({"name": name, "value": round(value, 2)}))
    time.sleep(1)
