"""Alt text for a folder of pictures or the images of an HTML page, a page to review it, an HTTP endpoint."""
