# The last step of the build stage: makes /out small, quick to start and the same each time.
# Wants PYTHON and SOURCE_DATE_EPOCH.
out=/out/opt/bbr

# What no import needs: sources of compiled modules, stubs, tests, programs of the dependencies.
find "$out" \( -name tests -o -name '*.pyx' -o -name '*.pxd' -o -name '*.pyi' -o -name '*.c' -o -name '*.cpp' -o -name '*.h' \) -prune \
  -exec rm -rf {} +
rm -rf "$out/bin"
if command -v strip >/dev/null; then find "$out" -name '*.so*' -exec strip --strip-unneeded {} +; fi

# Compiled once here, since nothing can be written later. By hash, unchecked: the files' times mean nothing in an image.
find "$out" -name __pycache__ -prune -exec rm -rf {} +
"$PYTHON" -m compileall -q --invalidation-mode unchecked-hash "$out"

# -I: neither the environment nor the working directory says what is imported. -B: nothing is written.
cat >/out/bbr <<END
#!$PYTHON -IB
import sys

sys.path.insert(0, "/opt/bbr")
from bbr.cli import main

raise SystemExit(main())
END
chmod 0755 /out/bbr
# Nor do the checkout's modes (its umask) get into the image.
chmod -R u=rwX,go=rX /out
find /out -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
