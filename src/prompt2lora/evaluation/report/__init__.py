"""Result files of the benchmarks -> one page with tables and plots."""

from prompt2lora.evaluation.report.page import report as report
