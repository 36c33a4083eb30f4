"""Makes a report of the runs that have finished: statistics, tables, figures and one page.

make_report, report_folder              `collect`; replacing the folder report/
run_list, read_histories, settings      the runs; their histories; runs that differ only in the seed
statistics, columns                     mean and spread over seeds, Δm, mean rank; the columns of tables
tables, table_text                      tables of values; tables as text (Markdown, CSV)
figures                                 the list of all figures; each has a method
line_panels, result_dots, schedule_strips   the drawing of them
style, colours, fonts, labels, plain_matplotlib   their look
page, page_template, escaping           index.html
"""
