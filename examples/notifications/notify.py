"""Notify a user: python3 notify.py ada "your parcel has arrived" """

import json
import sys

import redis

to, text = sys.argv[1:]
redis.Redis(host="localhost", port=6379).publish("global", json.dumps({"to": to, "text": text}))
