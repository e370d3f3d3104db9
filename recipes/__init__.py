"""One small folder a lecture topic: scripts of about a page and a README with measured results."""
