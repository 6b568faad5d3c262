use strict;
use warnings;
use lib 'lib';
use Csv;
require './tests/tap.pl';

sub rows { join '|', map { join ';', @$_ } Csv::parse($_[0]) }

is(rows("a,b,c\n"), 'a;b;c', 'plain fields');
is(rows("a,,c,\n"), 'a;;c;', 'empty fields');
is(rows(qq(a,"b",c\n)), 'a;b;c', 'quoted field');
is(rows("a,b\r\nc,d\r\n"), 'a;b|c;d', 'several rows');
done_testing();
