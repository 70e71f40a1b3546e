"""A Django project as a Worker. Its tables are made when it starts."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
# The Worker's event loop runs in the thread that Django's views are called in.
os.environ.setdefault("DJANGO_ALLOW_ASYNC_UNSAFE", "true")

from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from workers import wsgi

application = get_wsgi_application()
call_command("migrate", verbosity=0)

from django.contrib.auth.models import User

if not User.objects.exists():
    User.objects.create_superuser("admin", password="bunflare")

Default = wsgi.entrypoint(application)
