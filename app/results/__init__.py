"""Where the images live, and the signed URLs by which they are fetched."""
