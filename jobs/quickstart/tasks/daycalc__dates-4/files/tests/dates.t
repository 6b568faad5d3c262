use strict;
use warnings;
use lib 'lib';
use Dates qw(is_leap_year add_days days_between);
require './tests/tap.pl';

is(is_leap_year(2024), 1, '2024 is a leap year');
is(is_leap_year(2023), 0, '2023 is none');
is(add_days('2024-02-28', 2), '2024-03-01', 'over the end of a month');
is(days_between('2024-01-01', '2024-12-31'), 365, 'difference');
done_testing();
