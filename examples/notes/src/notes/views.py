from django.shortcuts import redirect, render
from pyodide.ffi import run_sync

from .models import Note


def index(request):
    if request.method == "POST":
        Note.objects.create(text=request.POST["text"])
        return redirect("/")
    # A binding of the platform's, from code that is not asynchronous.
    visits = request.environ["workers.env"].VISITS
    count = int(run_sync(visits.get("count")) or 0) + 1
    run_sync(visits.put("count", str(count)))
    notes = Note.objects.order_by("-id")[:50]
    return render(request, "notes/index.html", {"notes": notes, "count": count})
