"""Cloud transfer jobs: started once, watched to their end, believed only with their evidence."""
