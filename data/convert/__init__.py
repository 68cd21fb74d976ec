"""Files of other formats to Parquet: IDX, NPZ, NPY, CSV and JSON lines."""
