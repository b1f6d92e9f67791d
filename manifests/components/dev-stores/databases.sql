-- Beside the platform's own, which the image makes from POSTGRES_DB.
CREATE DATABASE mlflow;
CREATE DATABASE feast;
