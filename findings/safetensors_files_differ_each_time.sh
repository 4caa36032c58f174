#!/bin/sh
# Software:  safetensors 0.8.0 (Python), numpy 2.2.6.
# Input:     one tensor and eight entries of metadata, saved by three processes.
# Guess:     three equal files: the format sorts its tensors, and a Python dict keeps its order.
# Behaviour: the metadata are written in an order that each process draws anew: the files differ, and so do their hashes. With no
#            more than one entry they are equal. (Eight entries have 40,320 orders, so that three equal files by chance do not happen.)
# Meets us:  a tool that saves a checkpoint again changes its identity although nothing in it changed. Our own writer has one order.
folder=$(mktemp -d)
. "$(dirname "$0")/common.sh"
packages safetensors==0.8.0 numpy==2.2.6
save() {
    "$python" - "$@" <<'EOF'
import hashlib, sys
import numpy, safetensors.numpy
data = safetensors.numpy.save({"a": numpy.zeros(4, numpy.float32)}, metadata={name: "x" for name in sys.argv[1:]})
print(len(data), hashlib.sha256(data).hexdigest())
EOF
}
count() {
    for _ in 1 2 3; do save "$@"; done | sort -u | wc -l | tr -d ' '
}
{
    echo "different files of three, with one entry:     $(count a)"
    echo "different files of three, with eight entries: $(count a b c d e f g h)"
} | seen 'different files of three, with one entry:     1
different files of three, with eight entries: 3'
