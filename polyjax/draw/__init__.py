"""Pictures of results beside theory; nothing else imports matplotlib."""
