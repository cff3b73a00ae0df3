"""Other tools' words for our functions, written in small letters without underscores."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

_WORDS = {
    "upper": "toupper touppercase uppercase ucase strtoupper",
    "lower": "tolower tolowercase lowercase lcase strtolower",
    "trim": "strip ltrim rtrim trimstart trimend btrim",
    "substr": "substring mid left right slice",
    "replace": "replaceall gsub regexreplace",
    "pad": "lpad padleft padstart leftpad zfill zeropad ljust rjust",
    "strip_zeros": "trimzeros removezeros stripleadingzeros trimleadingzeros alphaoutput unpad",
    "split_text": "split tokenize splitstring",
    "concat": "concatenate cat strcat",
    "to_text": "text tostr stringify str",
    "length": "len size count strlen",
    "coalesce": "nvl ifnull isnull firstnonnull",
    "default": "orelse withdefault fallback",
    "if_else": "if iif ifelse when cond switch ternary",
    "nullify": "nullif emptytonull blanktonull",
    "now": "utcnow currentdate currenttimestamp sysdate getdate today currenttime timestamp",
    "date_parse": "parsedate todate strptime dateparse parsedatetime todatetime tsparse parsetime strtodate",
    "date_format": "formatdate strftime dateformat formatdatetime tochar tsformat formattime",
    "date_add": "adddays adddate dateadd addtime addhours",
    "in_zone": "converttimezone tozone attimezone totimezone withzone astimezone",
    "number": "parsenumber numberparse tonumberlocale",
    "to_number": "tonum parseint parsefloat toint tofloat todecimal int float cast decimal double tointeger",
    "to_string": "string dumps jsonencode tojson",
    "add": "plus",
    "sub": "minus subtract",
    "mul": "times multiply product",
    "div": "divide quotient",
    "mod": "modulo remainder",
    "round": "rounded roundto",
    "ceil": "ceiling roundup",
    "floor": "rounddown trunc truncate",
    "avg": "average mean",
    "hash": "sha256 sha digest md5 sha1 checksum",
    "uuid": "uuidv4 uuidv5 uuidv7 uuid4 uuid7 guid newguid newid randomuuid generateid",
    "xref": "lookup crossref crosswalk translate mapvalue xlate getmapping",
    "get": "getfield lookupfield field elementat",
    "unique": "distinct uniq dedup dedupe uniqueby",
    "group_by": "groupby partition",
    "sort_by": "orderby sortby sorted",
    "contains": "includes has hasvalue instr",
    "starts_with": "startswith beginswith",
    "ends_with": "endswith",
    "join": "implode strjoin",
    "merge": "assign extend combine",
    "map": "foreach transform mapeach",
    "type": "typeof gettype",
    "sap_date": "odatadate sapdate parsesapdate",
    "not_null": "notnull firstnotnull",
    "abs": "absolute",
    "keys": "keyset fields",
    "reverse": "reversed",
    "to_array": "toarray tolist array list",
}

#: other tool's word -> our function
FUNCTION_WORDS: Mapping[str, str] = MappingProxyType(
    {word: ours for ours, words in _WORDS.items() for word in words.split()}
)

#: words for what the language has without a function
NOT_FUNCTIONS: Mapping[str, str] = MappingProxyType(
    {
        "first": "the first element is `list[0]`",
        "last": "the last element is `list[-1]`",
        "filter": "a filter is written `list[?condition]`",
        "where": "a filter is written `list[?condition]`",
        "select": "a field of each element is `list[].field`",
        "flatten": "a list of lists is flattened by `list[]`",
        "not": "write `!condition`",
        "and": "write `left && right`",
        "or": "write `left || right`",
        "eq": "write `left == right`",
        "equals": "write `left == right`",
        "gt": "write `left > right`",
        "lt": "write `left < right`",
        "isempty": "an empty value is false: write `!value`",
        "env": "the environment is read by ${NAME} in esb.yaml and connectors, not in expressions",
        "secret": "a secret only stands in `auth` and connectors, as ${secret:name}",
        "random": "chance is not repeatable; `uuid()` gives a new id",
        "namespace": "a loop cannot change a variable outside; see sum, join, groupby, loop.first",
        "eval": "text of a message is never run",
        "regexmatch": "there are no regular expressions here; see starts_with, ends_with, contains",
        "matches": "there are no regular expressions here; see starts_with, ends_with, contains",
    }
)
