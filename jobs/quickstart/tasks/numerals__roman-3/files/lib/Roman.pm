package Roman;

# Roman numerals from 1 to 3999.

use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = qw(to_roman from_roman);

# Values and letters, largest first.
my @letters = (
    [1000, 'M'],
    [500,  'D'],
    [100,  'C'],
    [50,   'L'],
    [10,   'X'],
    [9,    'IX'],
    [5,    'V'],
    [4,    'IV'],
    [1,    'I'],
);

my %value = map { $_->[1] => $_->[0] } grep { length $_->[1] == 1 } @letters;

# to_roman(NUMBER): the numeral.
sub to_roman {
    my ($number) = @_;
    die "roman: $number is not between 1 and 3999\n" unless $number =~ /^\d+$/ && $number >= 1 && $number <= 3999;
    my $numeral = '';
    for my $letter (@letters) {
        my ($value, $text) = @$letter;
        while ($number >= $value) {
            $numeral .= $text;
            $number -= $value;
        }
    }
    return $numeral;
}

# from_roman(NUMERAL): the number. A smaller value before a larger one is subtracted.
sub from_roman {
    my ($numeral) = @_;
    die "roman: '$numeral' is no numeral\n" unless $numeral =~ /^[IVXLCDM]+$/;
    my ($sum, $last) = (0, 0);
    for my $digit (map { $value{$_} } reverse split //, $numeral) {
        $sum += $digit < $last ? -$digit : $digit;
        $last = $digit;
    }
    return $sum;
}

1;
