"""`eventbus demo`: a story goes through a real fleet, from one command.

    pipeline.py   the application that the worker processes load
    fleet.py      the worker processes
    run.py        servers, fleet, archiver, one project: from PROJECT_CREATED to PROJECT_FINALIZED
    progress.py   what is shown meanwhile
    report.py     what is shown at the end
    notes.py      what is less than one may expect: a condensed story, letters without a font

The agents are in `examples/storyboard`, and know nothing of this.
"""
