"""Writes the n-th C example of a Markdown file to a file, for it to be compiled: readme_code.py MARKDOWN N OUT"""
import pathlib
import re
import sys

markdown, number, out = sys.argv[1:]
blocks = re.findall(r"^```c\n(.*?)^```$", pathlib.Path(markdown).read_text(), flags=re.S | re.M)
pathlib.Path(out).write_text(blocks[int(number)])
