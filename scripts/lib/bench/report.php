<?php
/*
 * Medians as a table on stdout, everything as JSON in a file.
 *
 * usage: report.php ROWS VALUES JSON KEY=VALUE...
 *
 * ROWS: row, title, unit, what is judged, goal (ratio<=R against ext4, or value<=V), separated by tabs.
 * VALUES: row, file system, value.
 */
[ , $rowsFile, $valuesFile, $jsonFile ] = $argv;
$facts = [];
foreach ( array_slice( $argv, 4 ) as $fact ) {
	[ $key, $value ] = explode( '=', $fact, 2 );
	$facts[$key] = is_numeric( $value ) ? $value + 0 : $value;
}

function lines( string $file ): array {
	return array_map( fn ( $line ) => explode( "\t", $line ), file( $file, FILE_IGNORE_NEW_LINES ) );
}

function median( array $values ): float {
	sort( $values );
	$middle = intdiv( count( $values ), 2 );
	return count( $values ) % 2 ? $values[$middle] : ( $values[$middle - 1] + $values[$middle] ) / 2;
}

/** Three digits that say something. */
function shown( float $value ): string {
	return number_format( $value, match ( true ) {
		$value >= 100 => 0,
		$value >= 10 => 1,
		$value >= 1 => 2,
		$value >= 0.01 => 3,
		default => 4,
	}, '.', '' );
}

$values = [];
$requests = [];
$names = [];
foreach ( lines( $valuesFile ) as [ $row, $name, $value ] ) {
	if ( str_starts_with( $row, 'requests:' ) ) {
		$requests[substr( $row, 9 )][$name] = (float)$value;
	} else {
		$values[$row][$name][] = (float)$value;
		$names[$name] = true;
	}
}
$names = array_keys( $names );
// ext4 first: everything is compared with it.
usort( $names, fn ( $a, $b ) => ( $b === 'ext4' ) <=> ( $a === 'ext4' ) );

$document = [ 'facts' => $facts, 'rows' => [], 'requests' => $requests ];
$table = [ array_merge( [ 'work', 'unit' ], $names, [ 'goal', '' ] ) ];
foreach ( lines( $rowsFile ) as [ $row, $title, $unit, $judged, $goal ] ) {
	if ( !isset( $values[$row] ) ) {
		continue;
	}
	$found = $values[$row];
	$base = isset( $found['ext4'] ) ? median( $found['ext4'] ) : null;
	$cells = [ $title, $unit ];
	$entry = [ 'title' => $title, 'unit' => $unit, 'goal' => $goal, 'file_systems' => [] ];
	foreach ( $names as $name ) {
		if ( !isset( $found[$name] ) ) {
			$cells[] = '';
			continue;
		}
		$middle = median( $found[$name] );
		$ratio = $base === null || $name === 'ext4' ? null : $middle / $base;
		$cells[] = shown( $middle ) . ( $ratio === null ? '' : sprintf( ' %.2fx', $ratio ) );
		$entry['file_systems'][$name] = [ 'median' => $middle, 'ratio' => $ratio, 'values' => $found[$name] ];
	}
	$met = null;
	if ( preg_match( '/^(ratio|value)([<>])=(.+)$/', $goal, $parts ) && isset( $entry['file_systems'][$judged] ) ) {
		$judgedBy = $entry['file_systems'][$judged][$parts[1] === 'ratio' ? 'ratio' : 'median'];
		$met = $judgedBy === null ? null : ( $parts[2] === '<' ? $judgedBy <= $parts[3] : $judgedBy >= $parts[3] );
		$goal = $parts[2] . '= ' . $parts[3] . ( $parts[1] === 'ratio' ? 'x' : '' );
	}
	$entry['met'] = $met;
	$document['rows'][$row] = $entry;
	$table[] = array_merge( $cells, [ $goal, match ( $met ) { true => 'met', false => 'MISSED', null => '' } ] );
}

$widths = [];
foreach ( $table as $cells ) {
	foreach ( $cells as $column => $cell ) {
		$widths[$column] = max( $widths[$column] ?? 0, strlen( $cell ) );
	}
}
foreach ( $table as $number => $cells ) {
	$padded = [];
	foreach ( $cells as $column => $cell ) {
		$padded[] = str_pad( $cell, $widths[$column], ' ', $column < 2 ? STR_PAD_RIGHT : STR_PAD_LEFT );
	}
	echo '| ', implode( ' | ', $padded ), " |\n";
	if ( $number === 0 && count( $table ) > 1 ) {
		echo '|', implode( '|', array_map( fn ( $width ) => str_repeat( '-', $width + 2 ), $widths ) ), "|\n";
	}
}
if ( $requests ) {
	echo "\nRequests of the kernel to sitefs:\n\n| work | for | in all | of which |\n|---|---|---|---|\n";
	foreach ( $requests as $work => $counts ) {
		[ $title, $for, $units ] = explode( ';', $work );
		arsort( $counts );
		$parts = [];
		foreach ( $counts as $operation => $count ) {
			$parts[] = "$operation " . shown( $count / $units );
		}
		printf( "| %s | %s | %s | %s |\n", $title, $for, shown( array_sum( $counts ) / $units ), implode( ', ', $parts ) );
	}
}
file_put_contents( $jsonFile, json_encode( $document, JSON_PRETTY_PRINT | JSON_UNESCAPED_SLASHES ) . "\n" );
