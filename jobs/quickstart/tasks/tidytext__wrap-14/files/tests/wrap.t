use strict;
use warnings;
use lib 'lib';
use Tidy;
require './tests/tap.pl';

is(Tidy::wrap(20, "one two\n"), "one two\n", 'short line');
is(Tidy::wrap(10, "one two three\n"), "one two\nthree\n", 'long line');
done_testing();
