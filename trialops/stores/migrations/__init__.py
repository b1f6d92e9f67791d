"""Schema migrations, run by trialops.stores.database.migrate.

One file per step in versions/, named <four digits>_<what>.py, whose four digits are its Alembic revision;
history is linear. A step spells its tables out instead of importing trialops.stores.tables, so that an old
step never changes meaning.
"""
