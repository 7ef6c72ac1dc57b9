"""Templates in Glance's database, through Glance's own table models, in bulk.

The API cannot register a location in a store that it does not know, so the rows are written here;
no bits are copied and no datastore is touched.
"""
