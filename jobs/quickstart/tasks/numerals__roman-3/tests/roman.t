use strict;
use warnings;
use lib 'lib';
use Roman qw(to_roman from_roman);
require './tests/tap.pl';

my %numerals = (
    1 => 'I', 4 => 'IV', 9 => 'IX', 38 => 'XXXVIII', 40 => 'XL', 90 => 'XC', 400 => 'CD', 900 => 'CM',
    1994 => 'MCMXCIV', 2026 => 'MMXXVI',
);
is(to_roman($_), $numerals{$_}, $_) for sort { $a <=> $b } keys %numerals;
is(from_roman('XL'), 40, 'XL is 40');
is(scalar(grep { from_roman(to_roman($_)) != $_ || to_roman($_) =~ /(.)\1\1\1/ } 1 .. 3999), 0, 'there and back again');
is(scalar(`perl roman 49 XLIX`), "XLIX\n49\n", 'command line');
dies(sub { to_roman(0) }, qr/not between/, 'zero is refused');
dies(sub { from_roman('forty') }, qr/no numeral/, 'text is refused');
done_testing();
