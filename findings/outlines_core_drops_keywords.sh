#!/bin/sh
# Software:  outlines-core 0.2.14 (Python).
# Input:     JSON schemas with one keyword more than a type, and a value that breaks it.
# Guess:     a keyword is enforced, or the schema is refused with the keyword's name.
# Behaviour: minimum, exclusiveMaximum, multipleOf and uniqueItems are left out: the expression that is made matches values which
#            break them, and nothing is said. The format of a date is enforced, so that some keywords work. additionalProperties: true
#            is left out the other way: what it allows does not match.
# Meets us:  an answer that was generated under a schema may break it; it has to be validated afterwards.
folder=$(mktemp -d)
. "$(dirname "$0")/common.sh"
packages outlines-core==0.2.14
cat >"$folder/match.py" <<'EOF'
import json
import re
from outlines_core.json_schema import build_regex_from_schema

CASES = [
    ({"type": "integer", "minimum": 5}, "3"),
    ({"type": "number", "exclusiveMaximum": 1}, "2"),
    ({"type": "integer", "multipleOf": 5}, "7"),
    ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "[1,1]"),
    ({"type": "string", "format": "date"}, '"2025-99-99"'),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": True}, '{"a":1,"b":2}'),
]
for schema, value in CASES:
    matches = re.fullmatch(build_regex_from_schema(json.dumps(schema)), value) is not None
    print(list(schema)[-1], value, "matches" if matches else "does not match")
EOF
"$python" "$folder/match.py" | seen 'minimum 3 matches
exclusiveMaximum 2 matches
multipleOf 7 matches
uniqueItems [1,1] matches
format "2025-99-99" does not match
additionalProperties {"a":1,"b":2} does not match'
