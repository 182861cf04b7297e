# Two commands are enough: `make run` starts the app, `make test` runs every test. Both set up what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test bench browser clean

run: $(VENV)/installed
	$(BIN)/python app.py serve $(ARGS)

# Two files at a time, in order of their names: much of a test is waiting for a page or a process.
test: $(VENV)/installed-dev browser
	$(BIN)/python -m pytest -m "not slow" -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

bench: $(VENV)/installed-dev browser
	$(BIN)/python -m pytest -m slow $(ARGS)

# A Chromium for the browser tests: the system's; else Debian's package when root; else Playwright's own.
browser: $(VENV)/installed-dev
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null \
	|| if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium fonts-noto-cjk >/dev/null; \
	else $(BIN)/playwright install chromium; fi

$(VENV)/installed: requirements.txt
	$(PYTHON) -c "import sys; assert (3, 10) <= sys.version_info < (3, 14), 'Python 3.10 to 3.13 is needed: make PYTHON=python3.12'"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/installed-dev: $(VENV)/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

clean:
	rm -rf $(VENV)
