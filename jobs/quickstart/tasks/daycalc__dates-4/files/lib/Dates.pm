package Dates;

# Arithmetic with dates of the Gregorian calendar, written as YYYY-MM-DD.

use strict;
use warnings;
use Exporter 'import';

our @EXPORT_OK = qw(is_leap_year add_days days_between);

my @days = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31);

sub is_leap_year {
    my ($year) = @_;
    return $year % 4 == 0 ? 1 : 0;
}

sub days_in_month {
    my ($year, $month) = @_;
    return $days[$month - 1] + ($month == 2 && is_leap_year($year) ? 1 : 0);
}

# Year, month and day of a date; dies if there is no such day.
sub parse {
    my ($date) = @_;
    my ($year, $month, $day) = $date =~ /^(\d{4})-(\d\d)-(\d\d)$/ or die "daycalc: '$date' is no date\n";
    die "daycalc: there is no $date\n"
        if $month < 1 || $month > 12 || $day < 1 || $day > days_in_month($year, $month);
    return ($year, $month, $day);
}

# add_days(DATE, DAYS): the date so many days later; earlier if DAYS is negative.
sub add_days {
    my ($date, $count) = @_;
    my ($year, $month, $day) = parse($date);
    $day += $count;
    while ($day > days_in_month($year, $month)) {
        $day -= days_in_month($year, $month);
        ($year, $month) = $month == 12 ? ($year + 1, 1) : ($year, $month + 1);
    }
    while ($day < 1) {
        ($year, $month) = $month == 1 ? ($year - 1, 12) : ($year, $month - 1);
        $day += days_in_month($year, $month);
    }
    return sprintf '%04d-%02d-%02d', $year, $month, $day;
}

# days_between(FROM, TO): how many days to add to FROM to get TO.
sub days_between {
    my ($from, $to) = @_;
    return day_number($to) - day_number($from);
}

# Days since 31 December of the year 0.
sub day_number {
    my ($year, $month, $day) = parse(@_);
    my $number = 0;
    $number += 365 + is_leap_year($_) for 1 .. $year - 1;
    $number += days_in_month($year, $_) for 1 .. $month - 1;
    return $number + $day;
}

1;
