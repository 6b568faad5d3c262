use strict;
use warnings;
use lib 'lib';
use Roman qw(to_roman from_roman);
require './tests/tap.pl';

is(to_roman(1), 'I', '1');
is(to_roman(4), 'IV', '4');
is(to_roman(9), 'IX', '9');
is(from_roman('XL'), 40, 'XL is 40');
done_testing();
