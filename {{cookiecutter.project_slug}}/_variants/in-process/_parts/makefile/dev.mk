dev: serve  ## run the whole application, which is the web server
