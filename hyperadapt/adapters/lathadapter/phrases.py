"""Plain attribute phrases, for naming what an attribute has learnt."""

_COLOURS = "red orange yellow green blue purple pink brown black white grey golden"
_PATTERNS = "striped spotted checkered plain mottled speckled banded"
_SURFACES = "shiny dull rough smooth furry feathered scaly metallic wooden transparent wet"
_SHAPES = "round long thin thick flat tall short pointed curved square star-shaped symmetrical"
_PARTS = "wings a_long_tail a_crest a_beak horns whiskers petals leaves a_stem fins wheels windows a_door legs a_roof"
_PLACES = "in_water in_the_sky on_grass on_sand in_a_forest in_a_city indoors on_a_plain_background in_snow on_a_road"
_ABUNDANCE = "alone in_a_group crowded_together in_rows close_up seen_from_above far_away in_motion"

PHRASES: tuple[str, ...] = tuple(
    [f"a {word} thing" for group in (_COLOURS, _PATTERNS, _SURFACES, _SHAPES) for word in group.split()]
    + [f"a thing with {part.replace('_', ' ')}" for part in _PARTS.split()]
    + [f"a thing {place.replace('_', ' ')}" for group in (_PLACES, _ABUNDANCE) for place in group.split()]
)
"""Each a sentence as a caption would say it, free of class names."""
