use strict;
use warnings;
use lib 'lib';
use Tidy;
require './tests/tap.pl';

is(Tidy::wrap(20, "one two\n"), "one two\n", 'short line');
is(Tidy::wrap(10, "one two three\n"), "one two\nthree\n", 'long line');
is(Tidy::wrap(20, "one\ntwo\n"), "one two\n", 'line breaks are no paragraphs');
is(Tidy::wrap(5, "a incomprehensible b\n"), "a\nincomprehensible\nb\n", 'word longer than the width');
is(Tidy::wrap(7, "one two three"), "one two\nthree\n", 'exact fit');
is(Tidy::wrap(20, "one\ntwo\n\nthree\n"), "one two\n\nthree\n", 'paragraphs stay apart');
is(Tidy::wrap(20, "\n\none\n \n\n\ntwo\n\n"), "one\n\ntwo\n", 'several empty lines become one');
is(Tidy::wrap(20, "- one\n- two\n"), "- one\n- two\n", 'list items stay apart');
is(Tidy::wrap(10, "to do:\n- one two three\nfour\n- five\n\nsix\n"), "to do:\n- one two\n  three\n  four\n- five\n\nsix\n", 'list items hang');
is(scalar(`echo one two | perl wrap 3`), "one\ntwo\n", 'command line');
done_testing();
