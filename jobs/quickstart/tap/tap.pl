# Prints test results as TAP: require this file, call `is` and `dies`, and end with `done_testing()`.
use strict;
use warnings;

my ($tests, $failures) = (0, 0);

# is(GOT, WANTED, NAME): one test, passed if both texts are the same.
sub is {
    my ($got, $wanted, $name) = @_;
    $tests++;
    $got = 'undef' unless defined $got;
    return print "ok $tests $name\n" if $got eq $wanted;
    $failures++;
    s/\n/\\n/g for $got, $wanted;
    print "not ok $tests $name\n#    got: $got\n# wanted: $wanted\n";
}

# dies(CODE, PATTERN, NAME): passed if CODE dies with a message that matches.
sub dies {
    my ($code, $pattern, $name) = @_;
    my $lived = eval { $code->(); 1 };
    is($lived ? 'no error' : $@ =~ $pattern ? 'matching error' : "error: $@", 'matching error', $name);
}

sub done_testing { print "1..$tests\n"; exit($failures ? 1 : 0) }

1;
