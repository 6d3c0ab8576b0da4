"""What a run leaves, in numbers and words: features and failures. Plain data that a console and a JSON file both show."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FeatureOutcome:
    """One feature over the whole corpus."""

    feature: str  # its folder
    rows: int
    failed: int
    files: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """The published failures of one kind, with some of them in words."""

    kind: str
    count: int
    examples: tuple[str, ...]
    selectors: tuple[str, ...] = ()  # one per example: what `vidmill retry --select` repeats it alone with
