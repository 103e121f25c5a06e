"""Object storage of images and uploads, and the signed URLs by which clients fetch them."""
