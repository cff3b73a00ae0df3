"""Spans on their way to a collector by OpenTelemetry's own exporter (extra ``otel``), in a thread of its library."""

from __future__ import annotations

from typing import Any

from esb.config.model import Traces
from esb.errors import EsbError
from esb.observe.spans import Span


class OtelMissing(EsbError):
    """The extra is not installed."""


class Exporter:
    """Hands spans to a span processor. What a collector does not take in time is dropped, never waited for."""

    def __init__(self, bus: str, processor: Any) -> None:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope  # noqa: PLC0415 - the same

        from esb import __version__  # noqa: PLC0415 - beside its use

        self._resource = Resource.create(
            {"service.name": "esb", "service.instance.id": bus, "service.version": __version__}
        )
        self._scope = InstrumentationScope("esb", __version__)
        self._processor = processor

    def __call__(self, span: Span) -> None:
        self._processor.on_end(self._readable(span))

    def close(self) -> None:
        """Send what is left; at most five seconds."""
        self._processor.force_flush(5000)
        self._processor.shutdown()

    def _readable(self, span: Span) -> Any:
        from opentelemetry.sdk.trace import ReadableSpan  # noqa: PLC0415 - an extra
        from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags  # noqa: PLC0415 - of an extra

        def context(trace: int, id_: int, *, remote: bool = False) -> Any:
            return SpanContext(trace, id_, is_remote=remote, trace_flags=TraceFlags(TraceFlags.SAMPLED))

        return ReadableSpan(
            name=span.name,
            context=context(span.trace, span.span),
            parent=context(span.trace, span.parent, remote=True) if span.parent is not None else None,
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(context(link.trace, link.span, remote=True)) for link in span.links],
            kind=SpanKind[span.kind.upper()],
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(StatusCode.UNSET),
            start_time=span.start,
            end_time=span.end,
            instrumentation_scope=self._scope,
        )


def exporter_of(traces: Traces, bus: str) -> Exporter | None:
    """The exporter of ``traces:`` in esb.yaml, None where it names no collector. Raises OtelMissing."""
    if not traces.endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415 - the same
    except ImportError:
        raise OtelMissing("`traces` needs the extra `otel`", hint="pip install 'plantbus[otel]'") from None
    headers = {name: value.reveal() for name, value in traces.headers.items()}
    return Exporter(bus, BatchSpanProcessor(OTLPSpanExporter(endpoint=traces.endpoint, headers=headers)))
