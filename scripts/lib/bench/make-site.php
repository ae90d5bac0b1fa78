<?php
/*
 * php make-site.php SITE FILES_MB DATABASE_MB DSN: uploads that do not compress, as pictures do not, and a table of texts
 * that compress as texts do, in the wiki's own database. The account is in BENCH_USER and BENCH_PASSWORD. The same bytes
 * each time.
 */
[, $site, $filesMb, $databaseMb, $dsn] = $argv;
mt_srand(20261121);
$bytes = 0;
for ($number = 0; $bytes < $filesMb * 1000000; $number++) {
    $directory = sprintf('%s/images/bench/%02d', $site, $number % 100);
    if (!is_dir($directory)) {
        mkdir($directory, 0755, true);
    }
    $length = mt_rand(2000, 98000);
    $content = '';
    while (strlen($content) < $length) {
        $content .= hash('sha512', mt_rand() . '.' . $number, true);
    }
    file_put_contents("$directory/$number.jpg", substr($content, 0, $length));
    $bytes += $length;
}
$options = [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION];
$database = new PDO($dsn, getenv('BENCH_USER') ?: null, getenv('BENCH_PASSWORD') ?: null, $options);
[$id, $start] = match ($database->getAttribute(PDO::ATTR_DRIVER_NAME)) {
    'sqlite' => ['INTEGER PRIMARY KEY', 'substr(body, 1, 20)'],
    'mysql' => ['INTEGER AUTO_INCREMENT PRIMARY KEY', 'body(20)'],
    'pgsql' => ['SERIAL PRIMARY KEY', 'substr(body, 1, 20)'],
};
$database->exec("CREATE TABLE bench_text (id $id, body TEXT)");
$database->exec("CREATE INDEX bench_start ON bench_text ($start)");
$words = explode(' ', 'the of and a to in is was he for it with as his on be at by had not are but from or have an they '
    . 'which one you were her all she there would their we him been has when who will more no if out so said what up its');
$database->beginTransaction();
$insert = $database->prepare('INSERT INTO bench_text (body) VALUES (?)');
for ($bytes = 0; $bytes < $databaseMb * 950000; $bytes += strlen($body)) {
    $body = '';
    for ($word = 0; $word < 300; $word++) {
        $body .= $words[mt_rand(0, count($words) - 1)] . ' ' . ($word % 8 ? '' : mt_rand() . ' ');
    }
    $insert->execute([$body]);
}
$database->commit();
