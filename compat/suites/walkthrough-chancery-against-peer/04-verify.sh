# As in walkthrough-bao, with our command line.
cli=$CHANCERY
. "$COMPAT/suites/walkthrough-bao/04-verify.sh"
