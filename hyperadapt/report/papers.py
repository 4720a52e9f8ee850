"""Tables in the papers' form, published rows beside ours."""

from collections.abc import Iterable, Sequence

from hyperadapt.evaluation import harmonic_mean
from hyperadapt.report.figures import Figure, figure, mean_of_harmonic_means, statistics_of
from hyperadapt.report.layout import MISSING, Section, Table, in_per_cent
from hyperadapt.report.published import FLAGS, PublishedRow, declared_flags
from hyperadapt.report.records import Group

BASE_NOVEL = ("base", "novel", "HM", "mean of HMs", "joint HM")


def paper_tables(groups: Sequence[Group], published: Sequence[PublishedRow] = ()) -> list[Table]:
    """One table a group: per cent, means over seeds.

    Base-to-novel in sections by data set and an average, its HM of the averages as in the papers, the mean of HMs
    beside it. Few-shot with a column for each number of shots. The others with a column for each test set.

    Args:
        groups: runs.
        published: figures of others, shown where protocol, backbone, shots and data set are those of a table.
    """
    return [_paper_table(group, [row for row in published if _belongs(row, group)]) for group in groups]


def _belongs(row: PublishedRow, group: Group) -> bool:
    return row.protocol == group.protocol and row.backbone == group.backbone and row.shots in group.shots


def _paper_table(group: Group, published: Sequence[PublishedRow]) -> Table:
    if group.protocol == "base-to-novel":
        header, sections = BASE_NOVEL, list(_base_novel_sections(group, published))
    elif not group.tests:
        header, sections = tuple(map(str, group.shots)), list(_few_shot_sections(group, published))
    else:
        names = statistics_of(group.protocol, group.sources[0], group.tests)
        header = ("trained on", *list(names)[1:])
        sections = list(_transfer_sections(group, published))
    notes = [f"Per cent, means over seeds. {MISSING}: no run, or nothing of the kind for this method."]
    if group.missing:
        notes.append(f"{group.missing} of {group.total} runs are missing, shown as (found/expected) among the seeds.")
    flags = {flag for row in published for flag in row.flags} | {
        flag for m in group.methods for flag in _flags(group, m)
    }
    notes += [f"{flag}: {meaning}." for flag, meaning in FLAGS.items() if flag in flags]
    sources = dict.fromkeys(row.source for row in published)
    notes += [f"† published; {source}." for source in sources]
    title = f"{group.protocol}, {group.backbone}"
    if group.protocol == "base-to-novel" and len(group.shots) == 1:
        title += f", {group.shots[0]}-shot"
    return Table(title, ("method", *header, "seeds", "flags"), tuple(sections), tuple(notes))


def _base_novel_sections(group: Group, published: Sequence[PublishedRow]) -> Iterable[Section]:
    names = statistics_of(group.protocol, "", ())
    for shots in group.shots:
        scopes = [([source], source) for source in group.sources]
        if len(group.sources) > 1:
            scopes.append((group.sources, f"average of {len(group.sources)} data sets"))
        for sources, title in scopes:
            rows = []
            for method in group.methods:
                found = {name: figure(group, sources, method, shots, names[name]) for name in names}
                mean = mean_of_harmonic_means(group, sources, method, shots)
                cells = [_percent(found[name]) for name in ("base", "novel", "HM")]
                cells += [in_per_cent(mean), _percent(found["joint HM"])]
                rows.append((method, *cells, *_seeds_and_flags(group, sources, method, [shots])))
            rows += [_published_base_novel(row, sources) for row in published if row.shots == shots]
            suffix = f", {shots}-shot" if len(group.shots) > 1 else ""
            yield Section(title + suffix, tuple(row for row in rows if row))


def _published_base_novel(row: PublishedRow, sources: Sequence[str]) -> tuple[str, ...]:
    """Empty where a data set is not among the published ones."""
    found, pair = row.each(sources), row.mean(sources)
    if pair is None:
        return ()
    two_ways = sum(harmonic_mean(*each) for each in found) / len(found) if found and len(found) > 1 else None
    cells = (
        in_per_cent(pair[0]),
        in_per_cent(pair[1]),
        in_per_cent(harmonic_mean(*pair)),
        in_per_cent(two_ways),
        MISSING,
    )
    return (f"{row.method} †", *cells, "", " ".join(row.flags))


def _few_shot_sections(group: Group, published: Sequence[PublishedRow]) -> Iterable[Section]:
    statistic = statistics_of(group.protocol, "", ())["all"]
    scopes = [([source], source) for source in group.sources]
    if len(group.sources) > 1:
        scopes.append((group.sources, f"average of {len(group.sources)} data sets"))
    for sources, title in scopes:
        rows = []
        for method in group.methods:
            cells = [_percent(figure(group, sources, method, shots, statistic)) for shots in group.shots]
            rows.append((method, *cells, *_seeds_and_flags(group, sources, method, group.shots)))
        yield Section(title, (*rows, *_published_few_shot(published, sources, group.shots)))


def _published_few_shot(
    published: Sequence[PublishedRow], sources: Sequence[str], shots: Sequence[int]
) -> Iterable[tuple[str, ...]]:
    """One row a method and source, with a figure for each number of shots that it has."""
    for method, source in dict.fromkeys((row.method, row.source) for row in published):
        own = [row for row in published if (row.method, row.source) == (method, source)]
        found = {row.shots: values[0] for row in own if (values := row.mean(sources)) is not None}
        cells = [in_per_cent(found.get(k)) for k in shots]
        if any(cell != MISSING for cell in cells):
            yield (f"{method} †", *cells, "", " ".join(own[0].flags))


def _transfer_sections(group: Group, published: Sequence[PublishedRow]) -> Iterable[Section]:
    for source in group.sources:
        names = statistics_of(group.protocol, source, group.tests)
        for shots in group.shots:
            rows = []
            for method in group.methods:
                cells = [_percent(figure(group, [source], method, shots, names[name])) for name in names]
                rows.append((method, *cells, *_seeds_and_flags(group, [source], method, [shots])))
            for row in (row for row in published if row.shots == shots):
                found = {name: v[0] for name in (source, *group.tests) if (v := row.values(name)) is not None}
                if found:
                    average = row.mean(group.tests)
                    found |= {} if average is None else {"average": average[0]}
                    rows.append(
                        (f"{row.method} †", *(in_per_cent(found.get(n)) for n in names), "", " ".join(row.flags))
                    )
            yield Section(f"{source}, {shots}-shot", tuple(rows))


def _seeds_and_flags(group: Group, sources: Sequence[str], method: str, shots: Sequence[int]) -> tuple[str, str]:
    keys = [(source, method, k) for source in sources for k in shots]
    found = sum(len(group.runs.get(key, {})) for key in keys)
    expected = sum(len(group.expected.get(key, ())) for key in keys)
    seeds = max((len(group.expected.get(key, ())) for key in keys), default=0)
    return (str(seeds) if found == expected else f"({found}/{expected})"), " ".join(_flags(group, method))


def _flags(group: Group, method: str) -> tuple[str, ...]:
    """What our own results say of a method."""
    return declared_flags(r for (_, name, _), runs in group.runs.items() if name == method for r in runs.values())


def _percent(found: Figure | None) -> str:
    return in_per_cent(None if found is None else found.value)
