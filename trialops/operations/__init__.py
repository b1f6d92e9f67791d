"""Operations: health of services and machines, durations, upkeep of lake and database."""
