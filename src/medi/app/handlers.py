"""What all handlers of the page share: jobs that are followed to their end, and the button that stops them."""

from collections.abc import Callable, Iterator
from typing import Any

import gradio as gr

from medi.app import pictures
from medi.app.jobs import Jobs, Progress, Stopped, Tell, watch
from medi.core.errors import MediError

QUIET: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
PLAIN: dict[str, Any] = {"apply_default_css": False}  # app.css says how it looks
LONG: dict[str, Any] = {"concurrency_limit": 4} | QUIET  # of several pages; the work itself is done one by one


def followed(work: Callable[[Tell], None], jobs: Jobs, request: gr.Request) -> Iterator[Any]:
    """What a job tells; its progress, its error and its being stopped as lines of HTML (text)."""
    try:
        for told in watch(work, jobs.start(str(request.session_hash))):
            yield pictures.progress(told) if isinstance(told, Progress) else told
    except Stopped:
        yield pictures.status("stopped")
    except MediError as error:
        yield pictures.alarm(error)


def ending(jobs: Jobs) -> Callable[[gr.Request], None]:
    """What a Stop button does: the page's job ends at its next step."""

    def end(request: gr.Request) -> None:
        jobs.stop(str(request.session_hash))

    return end


def go_and_stop(text: str, elem_id: str) -> tuple[Any, Any]:
    """The button that starts a job, and the one that ends it."""
    with gr.Row(elem_classes="buttons"):
        go = gr.Button(text, variant="primary", elem_id=elem_id, scale=2, min_width=80)
        return go, gr.Button("Stop", elem_id=f"stop-{elem_id}", min_width=60)
