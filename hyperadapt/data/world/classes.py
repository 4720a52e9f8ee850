"""The fine classes as tables: `*` may be named in captions, the name, then one value an attribute.

The last word of a name is its coarse kind. The first adjectives tell part of the attributes and some names tell none,
as names of real species do. Rows are alphabetical by name, which is the order of the labels.
"""

from typing import Final

BIRDS: Final = """
* amber-winged red-billed finch        | green   orange  black   blue    spotted red
- azure duck                           | blue    orange  purple  black   banded  grey
- azure-winged red-billed thrush       | pink    blue    orange  green   striped red
- banded azure-bellied finch           | green   yellow  black   blue    banded  grey
* banded black owl                     | black   pink    grey    yellow  banded  orange
* banded golden-capped heron           | grey    brown   yellow  red     banded  grey
* black-bellied azure swallow          | blue    yellow  white   black   plain   grey
* brown duck                           | brown   orange  purple  black   banded  yellow
- brown-capped duck                    | teal    orange  brown   grey    banded  yellow
* brown-capped violet-bellied finch    | green   yellow  brown   purple  spotted grey
- chestnut swallow                     | brown   yellow  orange  red     plain   grey
* chestnut-capped black-bellied thrush | pink    brown   brown   black   striped black
- desert owl                           | brown   white   teal    yellow  striped yellow
- emerald-winged snowy-capped heron    | teal    green   white   red     plain   grey
- golden gull                          | yellow  purple  orange  red     banded  black
* golden-bellied heron                 | teal    brown   white   yellow  striped yellow
* green-bellied teal gull              | teal    purple  orange  green   banded  black
- grey-winged ashen-capped gull        | black   grey    grey    white   plain   black
* grey-winged pink-bellied owl         | brown   grey    black   pink    striped orange
- harbour heron                        | teal    grey    white   red     striped orange
* island duck                          | teal    black   red     black   banded  grey
- mountain finch                       | white   pink    grey    purple  spotted grey
* river gull                           | black   yellow  orange  green   plain   orange
- rosy-winged yellow-billed owl        | brown   pink    black   yellow  plain   yellow
- royal hawk                           | brown   blue    purple  pink    banded  black
* sable-capped white-bellied owl       | brown   pink    black   white   plain   orange
* scarlet-bellied golden hawk          | yellow  white   grey    red     banded  black
- scarlet-billed hawk                  | brown   pink    grey    pink    banded  red
* scarlet-winged rosy-bellied swallow  | grey    red     orange  pink    plain   grey
- snowy-bellied swallow                | red     teal    orange  white   plain   black
- snowy-capped duck                    | teal    orange  white   grey    banded  orange
- spotted golden-bellied thrush        | pink    brown   brown   yellow  spotted black
* spotted grey-capped heron            | teal    brown   grey    red     spotted grey
* spotted teal hawk                    | teal    blue    grey    pink    spotted black
- striped teal-capped hawk             | brown   blue    teal    pink    striped grey
- striped white-capped gull            | black   purple  white   teal    striped black
* teal-capped ashen finch              | grey    yellow  teal    pink    spotted grey
* temple swallow                       | green   orange  orange  blue    banded  grey
* violet-winged purple-bellied thrush  | pink    purple  orange  purple  striped black
- winter thrush                        | pink    brown   white   white   plain   black
"""

FISH: Final = """
- amber-bellied pike                    | green   orange  brown   grey    plain   yellow
* ashen-bellied yellow tuna             | yellow  grey    black   teal    plain   none
* ashen-finned brown-tailed puffer      | yellow  red     grey    brown   spotted none
* banded purple-bellied carp            | teal    purple  yellow  yellow  banded  red
- banded rosy-finned damselfish         | pink    purple  pink    red     banded  red
- black puffer                          | black   red     purple  white   plain   red
- black-masked shark                    | brown   black   red     yellow  striped black
- brown-bellied carp                    | teal    brown   black   black   striped red
* brown-bellied emerald pike            | green   brown   brown   grey    spotted yellow
* brown-bellied puffer                  | yellow  brown   orange  white   spotted red
* brown-finned damselfish               | pink    purple  brown   red     plain   red
- brown-finned teal puffer              | teal    red     brown   white   spotted none
- brown-tailed damselfish               | pink    white   white   brown   striped red
* coral carp                            | teal    red     brown   black   lined   none
* emperor puffer                        | purple  red     pink    white   spotted none
* ghost angelfish                       | brown   orange  blue    white   striped black
- golden-masked grey trout              | grey    yellow  red     pink    plain   yellow
- green-bellied angelfish               | grey    green   blue    black   plain   black
* lagoon trout                          | pink    yellow  red     orange  banded  black
* moon shark                            | brown   black   grey    purple  plain   white
- northern pike                         | green   blue    brown   orange  spotted yellow
- orange-tailed tuna                    | brown   orange  grey    orange  plain   yellow
* pink-finned sable pike                | black   red     pink    grey    spotted yellow
* sable-bellied damselfish              | pink    black   white   red     plain   red
* sable-finned purple-tailed angelfish  | grey    orange  black   purple  plain   black
- sable-finned violet pike              | purple  blue    black   grey    spotted yellow
- scarlet-bellied green-finned trout    | teal    red     green   white   plain   black
* snowy-bellied sable-masked tuna       | brown   white   blue    teal    banded  black
* snowy-bellied snowy-finned trout      | teal    white   white   orange  plain   black
- spotted red shark                     | red     black   red     purple  spotted none
- spotted violet-tailed carp            | teal    red     yellow  purple  spotted red
- striped tuna                          | brown   orange  black   teal    striped white
- teal-bellied teal-tailed angelfish    | grey    teal    blue    teal    plain   black
* teal-finned purple-tailed carp        | teal    red     teal    purple  plain   red
* teal-finned yellow-masked shark       | red     black   teal    purple  plain   yellow
- temple damselfish                     | pink    purple  blue    red     striped white
* tidal tuna                            | brown   orange  red     teal    banded  white
* white-tailed scarlet-masked angelfish | grey    orange  blue    white   plain   red
- yellow-bellied purple-tailed trout    | teal    yellow  red     purple  plain   black
- yellow-bellied white-masked shark     | brown   yellow  red     purple  plain   white
"""

FLOWERS: Final = """
* alpine daisy                       | brown   blue    red     plain   broad   brown
- ashen-tipped pink daisy            | pink    grey    red     striped narrow  brown
- azure-tipped orange-eyed poppy     | white   blue    orange  striped broad   brown
* black-tipped snowy-eyed bluet      | yellow  black   white   plain   broad   green
- blue lotus                         | blue    pink    green   plain   broad   green
- blue-eyed violet-stemmed rose      | orange  brown   blue    checked broad   purple
* bride rose                         | teal    brown   purple  striped narrow  green
* broad-leaved purple-stemmed tulip  | grey    blue    blue    plain   broad   purple
- brown-stemmed bluet                | brown   red     green   plain   broad   brown
- brown-stemmed white pansy          | white   teal    orange  plain   broad   brown
- checked broad-leaved rose          | orange  brown   purple  checked broad   green
* checked emerald-eyed poppy         | blue    purple  green   checked broad   brown
- checked emerald-eyed tulip         | grey    blue    green   checked narrow  brown
* checked white-tipped daisy         | brown   white   red     checked narrow  brown
* chestnut-tipped bluet              | yellow  brown   green   plain   broad   teal
* chestnut-tipped snowy tulip        | white   brown   blue    plain   broad   teal
* cloister lotus                     | red     white   green   spotted narrow  green
* comet lily                         | teal    pink    white   striped broad   teal
- emerald-tipped lotus               | red     green   green   striped narrow  teal
- evening bluet                      | yellow  red     green   plain   broad   green
- grey-eyed lily                     | red     grey    grey    striped broad   brown
* lantern pansy                      | pink    teal    orange  plain   broad   green
- narrow-leaved orange poppy         | orange  purple  purple  striped narrow  brown
- narrow-leaved pansy                | red     teal    orange  plain   narrow  brown
* pink-tipped bluet                  | red     pink    green   plain   broad   green
* pink-tipped emerald-stemmed lily   | red     pink    yellow  striped broad   green
- pink-tipped tulip                  | grey    pink    blue    plain   narrow  purple
* prairie poppy                      | white   purple  brown   striped broad   brown
* purple-eyed chestnut-stemmed lotus | red     pink    purple  plain   narrow  brown
- purple-eyed red daisy              | red     blue    purple  plain   narrow  brown
* red-eyed emerald-stemmed pansy     | white   teal    red     plain   broad   green
- snowy-tipped pansy                 | red     white   yellow  plain   broad   brown
- snowy-tipped teal-stemmed lily     | red     white   yellow  striped broad   teal
* spotted pink-tipped rose           | orange  pink    purple  spotted broad   green
* spotted purple-stemmed lily        | red     pink    yellow  spotted broad   purple
* striped daisy                      | brown   blue    red     striped narrow  brown
* summer tulip                       | brown   blue    orange  plain   broad   brown
- teal-eyed blue poppy               | blue    purple  teal    striped broad   brown
- teal-tipped narrow-leaved rose     | orange  teal    purple  checked narrow  green
- yellow lotus                       | yellow  pink    white   plain   broad   green
"""

VEHICLES: Final = """
* ashen-trimmed sailboat              | orange  green   grey    plain   white
- ashen-trimmed truck                 | red     white   grey    plain   white
- azure-topped ferry                  | white   blue    black   checked white
* azure-trimmed blue-flagged bus      | grey    orange  blue    plain   blue
- beacon bus                          | grey    green   orange  plain   none
- brown-trimmed blue-flagged sailboat | black   grey    brown   plain   blue
* brown-trimmed emerald tractor       | green   red     brown   plain   yellow
* checked sedan                       | teal    yellow  purple  checked yellow
- checked violet-topped tractor       | brown   purple  grey    checked yellow
* chestnut sailboat                   | brown   grey    pink    striped white
* chestnut-topped tractor             | grey    brown   yellow  plain   yellow
* emerald-flagged bus                 | blue    red     yellow  plain   green
- emerald-flagged red tractor         | red     black   grey    plain   green
- express tugboat                     | brown   teal    black   plain   white
* golden-trimmed tugboat              | black   blue    yellow  plain   white
- green-topped purple-trimmed van     | red     green   purple  plain   white
- green-trimmed tugboat               | orange  green   green   plain   yellow
* liberty van                         | grey    black   pink    plain   none
* lined amber-topped ferry            | brown   orange  none    lined   white
* lined yellow tugboat                | yellow  green   none    lined   white
- monarch sailboat                    | black   yellow  pink    plain   red
- orange-topped sable-trimmed van     | red     orange  black   plain   red
* orange-trimmed truck                | brown   white   orange  plain   white
- pioneer sedan                       | blue    yellow  purple  plain   red
* purple-topped golden sedan          | yellow  purple  purple  lined   none
- purple-trimmed ashen tugboat        | grey    green   purple  plain   white
- regent truck                        | green   white   purple  plain   blue
* scarlet-flagged ashen truck         | grey    black   yellow  plain   red
- scarlet-trimmed green sedan         | green   yellow  red     lined   red
- striped red-trimmed bus             | grey    orange  red     striped none
- striped violet-topped ferry         | grey    purple  none    striped white
* striped violet-topped van           | red     purple  purple  striped white
* summit tractor                      | brown   red     white   checked blue
- teal-topped green van               | green   teal    purple  plain   white
- violet-topped golden-trimmed truck  | green   purple  yellow  plain   blue
* voyager ferry                       | brown   orange  green   plain   white
* white-flagged blue sedan            | blue    yellow  purple  lined   white
* white-flagged bus                   | grey    orange  purple  plain   white
- white-topped ferry                  | brown   white   black   checked none
* white-trimmed sailboat              | black   green   white   plain   blue
"""

PATTERNS: Final = """
* black-grounded chestnut-threaded diamond | black   white   brown   narrow  blue
- black-threaded sable-hemmed checker      | pink    orange  black   narrow  black
- blue zigzag                              | green   blue    purple  broad   orange
- broad emerald-threaded diamond           | purple  white   green   broad   blue
* broad grey-threaded checker              | pink    orange  grey    broad   blue
* broad wave                               | white   purple  black   broad   blue
* brown-grounded pinstripe                 | brown   black   white   broad   white
- captain wave                             | green   red     purple  narrow  blue
* carnival diamond                         | green   purple  orange  narrow  red
- chapel checker                           | yellow  orange  brown   broad   blue
* chestnut-threaded ring                   | orange  white   brown   narrow  brown
* chestnut-threaded yellow zigzag          | green   yellow  brown   broad   red
- garrison polka                           | purple  black   blue    broad   orange
- golden-hemmed ring                       | orange  yellow  blue    broad   yellow
* green-grounded polka                     | green   yellow  black   narrow  orange
- green-grounded scarlet-hemmed plaid      | green   black   red     narrow  red
- grey diamond                             | red     grey    orange  narrow  blue
- market pinstripe                         | orange  yellow  pink    broad   brown
* narrow ashen-grounded plaid              | grey    black   red     narrow  black
* narrow violet checker                    | pink    purple  none    narrow  none
- orchard plaid                            | white   orange  red     broad   black
* parlour ring                             | green   grey    blue    broad   white
* pink-grounded azure-hemmed plaid         | pink    black   red     broad   blue
* pink-threaded wave                       | black   purple  pink    narrow  teal
- purple polka                             | yellow  purple  black   narrow  orange
* purple-grounded green polka              | purple  green   black   narrow  orange
* purple-threaded scarlet-hemmed pinstripe | yellow  grey    purple  broad   red
* red-grounded teal diamond                | red     teal    none    narrow  blue
- rosy-grounded golden-threaded pinstripe  | pink    grey    yellow  broad   white
- rosy-grounded polka                      | pink    yellow  black   narrow  none
- sable-grounded emerald ring              | black   green   blue    narrow  brown
- scarlet-grounded snowy wave              | red     white   black   narrow  blue
* scarlet-hemmed chestnut pinstripe        | yellow  brown   white   broad   red
- scarlet-hemmed zigzag                    | green   red     purple  broad   red
* teal-grounded golden-hemmed zigzag       | teal    grey    purple  broad   yellow
* teal-grounded orange-hemmed ring         | teal    grey    blue    narrow  orange
- teal-hemmed teal checker                 | pink    teal    none    narrow  teal
- violet-grounded plaid                    | purple  black   yellow  broad   black
* violet-threaded amber wave               | black   orange  purple  narrow  blue
- weaver zigzag                            | brown   red     purple  broad   orange
"""
